//! What happens to one request at a load balancer: choosing a member, the one more try, and the counting. The proxying
//! itself is pingora's.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::connection::CurrentRequest;
use super::counts::count;
use super::framing::{body_bytes, refusal};
use super::member::{InFlight, Member};
use super::pool::Balancer;
use super::proxy_line::{self, CONNECT_WITHIN, Introduced};
use super::rule::{Rule, RuleCell, Speaks};
use super::{redirect, sticky};

/// How long an unused connection to a member is kept.
const IDLE_KEPT: Duration = Duration::from_secs(20);
/// On the balancer's own 502 and 504: the machine that was sent the request last. Not every request that fails while a
/// machine dies was on that machine, and only the balancer knows.
const MEMBER_HEADER: &str = "x-lb-member";
/// How long the rest of a body may take that nobody wants any more, before the connection is closed instead of kept.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);
/// Tries of one request or connection: the first, and one more.
pub(super) const TRIES_MAX: usize = 2;

/// One forwarding rule of a balancer.
pub(crate) struct Front {
    pub(crate) balancer: Arc<Balancer>,
    pub(super) rule: Arc<RuleCell>,
    pub(crate) entry_port: u16,
}

/// One request under way.
#[derive(Default)]
pub(crate) struct Exchange {
    counted: bool,
    at: Option<InFlight>,
    /// Machines tried; the last one is `at`.
    tried: Vec<u64>,
    /// The last try died on a connection that had been used before: the member may be well.
    died_reused: bool,
    /// May be sent a second time after it may have had its effect.
    replayable: bool,
    /// The connection to the member is kept afterwards.
    kept: bool,
    /// An answer began: a member's, or its own.
    answered: bool,
    own_answer: Option<u16>,
    is_tls: bool,
    /// The rule as it was when the request came.
    rule: Option<Arc<Rule>>,
    /// The machine that the client's cookie names.
    bound_to: Option<u64>,
}

/// Makes groups of connections that nobody else uses: a request that must not be sent twice gets a new connection, so
/// that it can't die on one that the member had just closed.
static FRESH_GROUP: AtomicU64 = AtomicU64::new(1);

impl Front {
    fn choose(&self, exchange: &Exchange) -> Option<Arc<Member>> {
        let bound = exchange
            .bound_to
            .filter(|machine| !exchange.tried.contains(machine));
        if let Some(member) = bound.and_then(|machine| self.balancer.member(machine)) {
            return Some(member);
        }
        let other = self.balancer.choose(&exchange.tried);
        if other.is_some() || !exchange.died_reused {
            return other;
        }
        // Alone, and only an old connection died: the same member again, by a new one.
        exchange
            .at
            .as_ref()
            .map(|at| Arc::clone(&at.0))
            .filter(|member| member.is_healthy())
    }

    fn may_try_again(&self, exchange: &Exchange) -> bool {
        self.balancer.retry() && exchange.tried.len() < TRIES_MAX
    }
}

/// GET, HEAD, and PUT without conditions: sent twice they do the same as once, and answer the client the same.
fn is_replayable(request: &RequestHeader) -> bool {
    match request.method {
        Method::GET | Method::HEAD => true,
        Method::PUT => {
            !request.headers.contains_key(header::IF_MATCH)
                && !request.headers.contains_key(header::IF_NONE_MATCH)
        }
        _ => false,
    }
}

#[async_trait]
impl ProxyHttp for Front {
    type CTX = Exchange;

    fn new_ctx(&self) -> Exchange {
        Exchange::default()
    }

    async fn early_request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<()> {
        count(&self.balancer.counts.requests);
        exchange.counted = true;
        exchange.replayable = is_replayable(session.req_header());
        exchange.rule = Some(self.rule.now());
        let behaviour = self.balancer.behaviour();
        session.set_read_timeout(Some(behaviour.idle_timeout));
        session.set_write_timeout(Some(behaviour.idle_timeout));
        session.set_total_drain_timeout(Some(DRAIN_WITHIN));
        // The rules may have changed since the connection was accepted.
        let admitted = client_ip(session).is_none_or(|client| behaviour.firewall.admits(client));
        let current = CurrentRequest::of(session.as_downstream()).cloned();
        exchange.is_tls = current
            .as_ref()
            .map_or(session.as_downstream().is_http2(), |current| current.is_tls());
        let malformed = current.as_ref().is_some_and(|current| current.is_malformed());
        let upgraded = session.req_header().headers.contains_key(header::UPGRADE);
        if let Some(current) = current.as_ref().filter(|_| !upgraded) {
            current.may_be_awaited();
        }
        match (current, body_bytes(session.req_header())) {
            (Some(current), Some(bytes)) => current.ends_after(bytes),
            // Where the next request begins is found by reading this one, so there is none.
            _ if session
                .req_header()
                .headers
                .contains_key(header::TRANSFER_ENCODING) =>
            {
                session.as_downstream_mut().set_pipelining_enabled(true);
                session.as_downstream_mut().set_keepalive(None);
            }
            _ => {}
        }
        let refused = match (admitted, malformed) {
            (false, _) => Some(403),
            (true, true) => Some(400),
            (true, false) => refusal(session.req_header()),
        };
        refused.map_or(Ok(()), |status| Err(Error::new(ErrorType::HTTPStatus(status))))
    }

    /// Sends clients of http to https, where that is wanted.
    async fn request_filter(&self, session: &mut Session, exchange: &mut Exchange) -> Result<bool> {
        let redirect_to = match exchange.rule.as_ref().map(|rule| &rule.speaks) {
            Some(Speaks::Http { redirect_to }) if !exchange.is_tls => *redirect_to,
            _ => None,
        };
        let Some(port) = redirect_to else {
            return Ok(false);
        };
        let Some(location) = redirect::location(session.req_header(), port) else {
            return Err(Error::new(ErrorType::HTTPStatus(400)));
        };
        exchange.own_answer = Some(redirect::STATUS);
        exchange.answered = true;
        self.balancer.counts.answers.add(redirect::STATUS);
        count(&self.balancer.counts.redirects);
        let answer = redirect::answer(&location)?;
        session.write_response_header(Box::new(answer), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, exchange: &mut Exchange) -> Result<Box<HttpPeer>> {
        let behaviour = self.balancer.behaviour();
        if let Some(sticky) = &behaviour.sticky {
            exchange.bound_to = sticky::machine(session.req_header(), sticky);
        }
        let again = !exchange.tried.is_empty();
        let Some(member) = self.choose(exchange) else {
            let status = if again { 502 } else { 503 };
            return Err(Error::new(ErrorType::HTTPStatus(status)));
        };
        if again {
            count(&self.balancer.counts.retries);
        }
        let target_port = exchange.rule.as_ref().map_or(0, |rule| rule.target_port);
        let mut peer = HttpPeer::new(member.target.endpoint(target_port), false, String::new());
        let patience = behaviour.idle_timeout;
        peer.options.bind_to = member.target.bound();
        peer.options.connection_timeout = Some(CONNECT_WITHIN);
        peer.options.read_timeout = Some(patience);
        peer.options.write_timeout = Some(patience);
        peer.options.idle_timeout = Some(IDLE_KEPT);
        exchange.kept =
            behaviour.backend_keepalive && !behaviour.proxy_protocol && !again && exchange.replayable;
        if behaviour.proxy_protocol {
            peer.options.custom_l4 = Some(Arc::new(Introduced {
                line: introduction(session),
                from: member.target.from,
            }));
        }
        if !exchange.kept {
            peer.group_key = FRESH_GROUP.fetch_add(1, Ordering::Relaxed);
            peer.options.idle_timeout = Some(Duration::ZERO);
        }
        exchange.tried.push(member.target.machine);
        exchange.at = Some(InFlight::start(member));
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if !exchange.kept {
            request.insert_header(header::CONNECTION, "close")?;
        }
        if let Some(client) = client_ip(session).map(|ip| ip.to_string()) {
            let chain = match request
                .headers
                .get("x-forwarded-for")
                .and_then(|value| value.to_str().ok())
            {
                Some(before) => format!("{before}, {client}"),
                None => client,
            };
            request.insert_header("x-forwarded-for", chain)?;
        }
        let protocol = if exchange.is_tls { "https" } else { "http" };
        request.insert_header("x-forwarded-proto", protocol)?;
        request.insert_header("x-forwarded-port", self.entry_port.to_string())?;
        match &self.balancer.behaviour().sticky {
            Some(sticky) => sticky::strip(request, sticky),
            None => Ok(()),
        }
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        exchange: &mut Exchange,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(at) = &exchange.at {
            at.0.try_failed();
            at.0.unreachable(error.etype().as_str());
        }
        exchange.died_reused = false;
        // Nothing was sent yet, so any request may go to another member.
        error.set_retry(self.may_try_again(exchange));
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        exchange: &mut Exchange,
        client_reused: bool,
    ) -> Box<Error> {
        let downstream = *error.esource() == ErrorSource::Downstream;
        if let Some(at) = exchange.at.as_ref().filter(|_| !downstream) {
            at.0.try_failed();
        }
        exchange.died_reused = client_reused;
        let died = !downstream && is_death(error.etype());
        let nothing_sent = session.response_written().is_none();
        let body_kept = !session.as_ref().retry_buffer_truncated();
        error.set_retry(
            died && nothing_sent && body_kept && exchange.replayable && self.may_try_again(exchange),
        );
        error
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if let Some(at) = exchange
            .at
            .as_ref()
            .filter(|_| !response.status.is_informational())
        {
            at.0.answers.add(response.status.as_u16());
        }
        Ok(())
    }

    /// Counted before it is sent: who has an answer finds it in the counts.
    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        exchange: &mut Exchange,
    ) -> Result<()> {
        if !response.status.is_informational() {
            exchange.answered = true;
            // From here on who has gone is noticed by what isn't taken; who has closed its half takes its time.
            session.as_downstream_mut().set_abort_on_close(false);
            self.balancer.counts.answers.add(response.status.as_u16());
            if let (Some(sticky), Some(at)) = (&self.balancer.behaviour().sticky, &exchange.at) {
                let machine = at.0.target.machine;
                if exchange.bound_to != Some(machine) {
                    response.append_header(header::SET_COOKIE, sticky::set_cookie(sticky, machine))?;
                }
            }
        }
        Ok(())
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        exchange: &mut Exchange,
    ) -> FailToProxy {
        let status = own_status(error);
        if session.response_written().is_some() || status == 0 {
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        }
        exchange.own_answer = Some(status);
        exchange.answered = true;
        let counts = &self.balancer.counts;
        counts.answers.add(status);
        match status {
            502 => count(&counts.own_502),
            503 => count(&counts.own_503),
            504 => count(&counts.own_504),
            _ => {}
        }
        let text = match status {
            503 => "no member of the load balancer is ready\n",
            504 => "the member took too long\n",
            502 => "the member's connection broke\n",
            403 => "the load balancer's firewall does not admit you\n",
            400 if *error.etype() == ErrorType::HTTPStatus(400) => {
                "the request is malformed: its first line, Host or Content-Length\n"
            }
            400 => "the request is malformed: its body is not framed as its head says\n",
            501 => "the only transfer coding is chunked\n",
            _ => "the load balancer can't forward this request\n",
        };
        let blamed = exchange.at.as_ref().filter(|_| matches!(status, 502 | 504));
        if let Err(error) = respond(session, status, text, blamed.map(|at| at.0.target.machine)).await {
            tracing::debug!(%error, "the client went before its answer");
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    async fn logging(&self, _session: &mut Session, error: Option<&Error>, exchange: &mut Exchange) {
        if !exchange.counted {
            return;
        }
        let counts = &self.balancer.counts;
        if !exchange.answered {
            count(&counts.clients_gone);
        } else if exchange.own_answer.is_none()
            && error.is_some_and(|error| *error.esource() == ErrorSource::Upstream)
        {
            count(&counts.cut_answers);
        }
        exchange.at = None;
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _exchange: &Exchange,
        _error: &Error,
        _at: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    fn suppress_error_log(&self, _session: &Session, _exchange: &Exchange, _error: &Error) -> bool {
        // Counted instead: a power cut under load would write thousands of lines.
        true
    }
}

fn client_ip(session: &Session) -> Option<IpAddr> {
    session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map(std::net::SocketAddr::ip)
}

/// What a member is told of the client in the PROXY protocol.
fn introduction(session: &Session) -> String {
    let inet = |address: Option<&pingora::protocols::l4::socket::SocketAddr>| address?.as_inet().copied();
    match (inet(session.client_addr()), inet(session.server_addr())) {
        (Some(client), Some(balancer)) => proxy_line::line(client, balancer),
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

/// Sends the balancer's own answer; `blamed` is the machine that broke off or was too slow.
async fn respond(session: &mut Session, status: u16, text: &'static str, blamed: Option<u64>) -> Result<()> {
    let mut response = ServerSession::generate_error(status);
    response.set_content_length(text.len())?;
    if let Some(machine) = blamed {
        response.insert_header(MEMBER_HEADER, machine.to_string())?;
    }
    session
        .write_error_response(response, Bytes::from_static(text.as_bytes()))
        .await
}

/// Whether the connection is dead, as opposed to slow or talking nonsense.
fn is_death(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectionClosed
            | ErrorType::ReadError
            | ErrorType::WriteError
            | ErrorType::ConnectError
            | ErrorType::ConnectRefused
            | ErrorType::ConnectTimedout
            | ErrorType::ConnectNoRoute
    )
}

/// The balancer's own answer to a failure; 0 when the client is gone.
fn own_status(error: &Error) -> u16 {
    match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(status), _) => *status,
        (ErrorType::ReadTimedout | ErrorType::WriteTimedout, ErrorSource::Upstream) => 504,
        (_, ErrorSource::Upstream) => 502,
        (
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
            ErrorSource::Downstream,
        ) => 0,
        (_, ErrorSource::Downstream) => 400,
        (_, ErrorSource::Internal | ErrorSource::Unset) => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_get_head_and_unconditional_put_may_be_sent_twice() {
        let request = |method: &str, condition: Option<&'static str>| {
            let mut request = RequestHeader::build(method, b"/x", None).unwrap();
            if let Some(name) = condition {
                request.insert_header(name, "\"1\"").unwrap();
            }
            is_replayable(&request)
        };
        assert!(request("GET", None) && request("HEAD", None) && request("PUT", None));
        assert!(request("GET", Some("if-none-match")));
        assert!(!request("PUT", Some("if-match")) && !request("PUT", Some("if-none-match")));
        for method in ["POST", "PATCH", "DELETE", "OPTIONS"] {
            assert!(!request(method, None), "{method}");
        }
    }
}
