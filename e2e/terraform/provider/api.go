package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	userAgent = "tidepool-digitalocean-stand-in"
	// An answer that is longer is none of the API's: a page of 200 droplets is below 1 MiB.
	answerBytesMax = 16 << 20
	callSecsMax    = 60
)

// api is DigitalOcean's API at one address. A refused call is tried again as the real provider does: after 429, a status from 500
// (but 501) and a broken connection, whatever the method.
type api struct {
	endpoint, token  string
	retries          int
	waitMin, waitMax time.Duration
	client           http.Client
	pace             pace
}

// pace keeps calls apart; without a gap it doesn't.
type pace struct {
	gap  time.Duration
	lock sync.Mutex
	next time.Time
}

func (p *pace) wait(ctx context.Context) error {
	if p.gap == 0 {
		return nil
	}
	p.lock.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(p.gap)
	p.lock.Unlock()
	return sleep(ctx, pause)
}

// answer is what came back; body is nil when it was empty.
type answer struct {
	status int
	body   map[string]any
}

// refusal is an answer from 300 on.
type refusal struct {
	method, path string
	status       int
	message      string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s %s: %d %s", r.method, r.path, r.status, r.message)
}

func (a *api) call(ctx context.Context, method, path string, body any) (answer, error) {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return answer{}, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	pause := a.waitMin
	for tried := 0; ; tried++ {
		got, after, err := a.once(ctx, method, path, payload)
		if after < 0 || tried >= a.retries {
			return got, err
		}
		wait := pause
		if after > 0 {
			wait = after
		}
		if err := sleep(ctx, wait); err != nil {
			return answer{}, fmt.Errorf("%s %s: %w", method, path, err)
		}
		pause = min(2*pause, a.waitMax)
	}
}

// once makes one call. after is negative when another one would be no use, and how long the server asks to wait if it says so.
func (a *api) once(ctx context.Context, method, path string, payload []byte) (got answer, after time.Duration, err error) {
	if err := a.pace.wait(ctx); err != nil {
		return answer{}, -1, fmt.Errorf("%s %s: %w", method, path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callSecsMax*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(a.endpoint, "/")+path, bytes.NewReader(payload))
	if err != nil {
		return answer{}, -1, err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", userAgent)
	if method != http.MethodGet {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return answer{}, 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err != nil {
		return answer{}, 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	got, err = understood(method, path, response.StatusCode, text)
	return got, pauseAsked(response), err
}

// pauseAsked is negative for an answer that is final.
func pauseAsked(response *http.Response) time.Duration {
	switch status := response.StatusCode; {
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		if secs, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil && secs >= 0 {
			return time.Duration(secs) * time.Second
		}
		return 0
	case status >= 500 && status != http.StatusNotImplemented:
		return 0
	}
	return -1
}

func understood(method, path string, status int, text []byte) (answer, error) {
	got := answer{status: status}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var err error
	if len(text) > 0 {
		err = decoder.Decode(&got.body)
	}
	if status >= 300 {
		message, _ := got.body["message"].(string)
		if message == "" {
			message = string(text[:min(len(text), 200)])
		}
		return got, &refusal{method: method, path: path, status: status, message: message}
	}
	if err != nil {
		return got, fmt.Errorf("%s %s: %d, and the answer is not a JSON object: %w", method, path, status, err)
	}
	return got, nil
}

func sleep(ctx context.Context, span time.Duration) error {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
