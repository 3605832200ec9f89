//! What a person sees while it runs: a few calm lines at the bottom that change, events that scroll by above them. Where
//! standard error is not a terminal, plain lines every few seconds. Standard output stays free for the result.

use std::time::{Duration, Instant};

use console::{Style, Term, measure_text_width, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidepool_load::{Figures, Shape};

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Columns of the tide's picture.
const TIDE_COLUMNS: usize = 48;
/// Heights of the tide's picture.
const HEIGHTS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
/// Lines that change.
const LINES: usize = 6;

/// One look at everything.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Since the load began.
    pub elapsed: Duration,
    /// How long it will take in all; `None`: until it is stopped.
    pub duration: Option<Duration>,
    /// The load over time.
    pub shape: Shape,
    /// Its period.
    pub period: Duration,
    /// The rate offered now.
    pub offered_per_sec: f64,
    /// What the generator counted.
    pub figures: Figures,
    /// Members' states, oldest first.
    pub states: Vec<String>,
    /// How many members the autoscaler wants.
    pub desired: u32,
    /// The newest reason of the autoscaler.
    pub reason: String,
}

/// What kind of event a line reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Something began or ended.
    Plain,
    /// A step on the way.
    Quiet,
    /// The pool grows.
    Out,
    /// The pool shrinks.
    In,
    /// A fault.
    Alarm,
    /// All is well.
    Good,
}

/// The view.
#[derive(Debug)]
pub struct View {
    lines: Option<(MultiProgress, Vec<ProgressBar>)>,
    plain_at: Option<Instant>,
    begun: Option<Instant>,
}

impl View {
    /// Changing lines where standard error is a terminal, plain ones elsewhere.
    pub fn new() -> Self {
        let term = Term::stderr();
        let lines = term.features().is_attended().then(|| {
            let all = MultiProgress::with_draw_target(ProgressDrawTarget::term(term, 10));
            (all, Vec::new())
        });
        Self {
            lines,
            plain_at: None,
            begun: None,
        }
    }

    /// From now on events carry the time since now.
    pub fn load_begins(&mut self) {
        self.begun = Some(Instant::now());
        let Some((all, bars)) = &mut self.lines else {
            return;
        };
        if bars.is_empty() {
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            for _ in 0..=LINES {
                let bar = all.add(ProgressBar::new_spinner());
                bar.set_style(style.clone());
                bars.push(bar);
            }
        }
    }

    /// Prints a line that stays, without a time.
    pub fn say(&self, text: &str) {
        match &self.lines {
            // A terminal that went away is not a reason to end the run.
            Some((all, _)) => drop(all.println(text)),
            None => tidepool_logging::report(&console::strip_ansi_codes(text)),
        }
    }

    /// Prints an event.
    pub fn event(&self, tone: Tone, text: &str) {
        let time = clock(self.begun.map_or(Duration::ZERO, |begun| begun.elapsed()));
        let (mark, style) = match tone {
            Tone::Plain => ("·", Style::new().for_stderr()),
            Tone::Quiet => ("·", Style::new().for_stderr().dim()),
            Tone::Out => ("▲", Style::new().for_stderr().green()),
            Tone::In => ("▼", Style::new().for_stderr().cyan()),
            Tone::Alarm => ("!", Style::new().for_stderr().red().bold()),
            Tone::Good => ("✓", Style::new().for_stderr().green().bold()),
        };
        let time = Style::new().for_stderr().dim().apply_to(time);
        let line = format!(" {time}  {} {}", style.apply_to(mark), style.apply_to(text));
        self.say(&self.fitted(&line));
    }

    /// Shows a look.
    pub fn show(&mut self, frame: &Frame) {
        match &self.lines {
            Some((_, bars)) => {
                for (bar, text) in bars.iter().zip(lines(frame)) {
                    bar.set_message(self.fitted(&text));
                }
            }
            None => {
                if self.plain_at.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
                    self.plain_at = Some(Instant::now());
                    tidepool_logging::report(&plain(frame));
                }
            }
        }
    }

    /// Takes the changing lines away; what was printed stays.
    pub fn close(&mut self) {
        if let Some((all, bars)) = &mut self.lines {
            for bar in bars.drain(..) {
                bar.finish_and_clear();
            }
            // A terminal that went away is not a reason to end the run.
            drop(all.clear());
        }
    }

    fn fitted(&self, line: &str) -> String {
        if self.lines.is_none() {
            return line.to_owned();
        }
        let width = usize::from(Term::stderr().size().1).max(20);
        if measure_text_width(line) < width {
            return line.to_owned();
        }
        truncate_str(line, width.saturating_sub(1), "…").into_owned()
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

/// `mm:ss`.
pub fn clock(elapsed: Duration) -> String {
    format!("{:02}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
}

/// `12 345`, with a thin space.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{2009}');
        }
        text.push(digit);
    }
    text
}

fn label(text: &str) -> String {
    format!(
        " {}",
        Style::new().for_stderr().dim().apply_to(format!("{text:<9}"))
    )
}

fn lines(frame: &Frame) -> [String; LINES + 1] {
    let bold = Style::new().for_stderr().bold();
    let dim = Style::new().for_stderr().dim();
    let figures = &frame.figures;
    let until = frame.duration.map_or("until Ctrl-C".to_owned(), |duration| {
        format!("of {}", clock(duration))
    });
    let load = format!(
        "{} offered, {} answered, {} in flight",
        bold.apply_to(format!("{:.0}/s", frame.offered_per_sec)),
        bold.apply_to(format!("{:.0}/s", figures.ended_per_sec)),
        figures.in_flight,
    );
    let latency = format!(
        "p50 {}  p99 {}  {}",
        bold.apply_to(millis(figures.recent_p50_ms)),
        bold.apply_to(millis(figures.recent_p99_ms)),
        dim.apply_to(format!("(last 10 s; whole run p99 {})", millis(figures.p99_ms))),
    );
    [
        " ".to_owned(),
        format!(
            "{}{} {} {}",
            label("tide"),
            picture(frame),
            bold.apply_to(clock(frame.elapsed)),
            dim.apply_to(until)
        ),
        format!("{}{load}", label("load")),
        format!("{}{latency}", label("latency")),
        format!("{}{}", label("members"), members(frame)),
        format!("{}{}", label("clients"), clients(figures)),
        format!("{}{}", label("because"), dim.apply_to(&frame.reason)),
    ]
}

/// The load over one period; what is past is bright.
fn picture(frame: &Frame) -> String {
    let max = frame.shape.rate_max().max(f64::MIN_POSITIVE);
    let position = frame.elapsed.as_secs_f64() / frame.period.as_secs_f64();
    let position = if frame.duration.is_some() {
        position.min(1.0)
    } else {
        position.fract()
    };
    let past = ((position * TIDE_COLUMNS as f64) as usize).min(TIDE_COLUMNS);
    let column = |column: usize| {
        let share = frame.shape.rate_at((column as f64 + 0.5) / TIDE_COLUMNS as f64) / max;
        let height = ((share * HEIGHTS.len() as f64).ceil() as usize).clamp(1, HEIGHTS.len());
        HEIGHTS.get(height - 1).copied().unwrap_or(" ")
    };
    let text = |range: std::ops::Range<usize>| range.map(column).collect::<String>();
    format!(
        "{}{}",
        Style::new().for_stderr().cyan().apply_to(text(0..past)),
        Style::new().for_stderr().dim().apply_to(text(past..TIDE_COLUMNS)),
    )
}

fn members(frame: &Frame) -> String {
    let style = |state: &str| match state {
        "serving" => ("●", Style::new().for_stderr().green()),
        "ready" => ("◉", Style::new().for_stderr().green()),
        "booting" => ("◌", Style::new().for_stderr().yellow()),
        "draining" => ("○", Style::new().for_stderr().cyan()),
        "dead" | "unready" => ("✗", Style::new().for_stderr().red()),
        _ => ("?", Style::new().for_stderr()),
    };
    let dots: Vec<String> = frame
        .states
        .iter()
        .map(|state| {
            let (dot, style) = style(state);
            style.apply_to(dot).to_string()
        })
        .collect();
    let wanted = Style::new()
        .for_stderr()
        .dim()
        .apply_to(format!("({} wanted)", frame.desired))
        .to_string();
    format!("{}  {} {wanted}", dots.join(" "), counted(&frame.states))
}

/// `4 serving, 1 booting`.
fn counted(states: &[String]) -> String {
    let mut words: Vec<String> = Vec::new();
    for wanted in ["serving", "ready", "booting", "unready", "draining", "dead"] {
        let count = states.iter().filter(|state| *state == wanted).count();
        if count > 0 {
            words.push(format!("{count} {wanted}"));
        }
    }
    if words.is_empty() {
        "none yet".to_owned()
    } else {
        words.join(", ")
    }
}

fn clients(figures: &Figures) -> String {
    let bold = Style::new().for_stderr().bold();
    let failed = if figures.failed == 0 {
        bold.clone().green()
    } else {
        bold.clone().red()
    };
    let unknown = if figures.unknown == 0 {
        bold.clone()
    } else {
        bold.clone().yellow()
    };
    format!(
        "{} requests, {} failed, {} unknown",
        bold.apply_to(grouped(figures.requests)),
        failed.apply_to(grouped(figures.failed)),
        unknown.apply_to(grouped(figures.unknown)),
    )
}

fn millis(millis: f64) -> String {
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

fn plain(frame: &Frame) -> String {
    let figures = &frame.figures;
    format!(
        " {}  load {:.0}/s, p50 {}, p99 {}; members: {}, {} wanted; {} requests, {} failed, {} unknown",
        clock(frame.elapsed),
        frame.offered_per_sec,
        millis(figures.recent_p50_ms),
        millis(figures.recent_p99_ms),
        counted(&frame.states),
        frame.desired,
        figures.requests,
        figures.failed,
        figures.unknown,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(elapsed: u64) -> Frame {
        Frame {
            elapsed: Duration::from_secs(elapsed),
            duration: Some(Duration::from_secs(150)),
            shape: Shape::Tide {
                low_per_sec: 50.0,
                high_per_sec: 400.0,
            },
            period: Duration::from_secs(150),
            offered_per_sec: 212.0,
            figures: Figures {
                requests: 12_345,
                unknown: 1,
                recent_p50_ms: 2.34,
                ..Figures::default()
            },
            states: ["serving", "serving", "booting", "dead"]
                .map(str::to_owned)
                .to_vec(),
            desired: 4,
            reason: "because".into(),
        }
    }

    #[test]
    fn a_plain_line_says_it_all() {
        assert_eq!(
            plain(&frame(62)),
            " 01:02  load 212/s, p50 2.3 ms, p99 0.0 ms; members: 2 serving, 1 booting, 1 dead, 4 wanted; 12345 requests, \
             0 failed, 1 unknown"
        );
    }

    #[test]
    fn the_tide_is_a_tide_of_fixed_width_at_any_time() {
        for elapsed in [0, 75, 150, 400] {
            let shown = picture(&frame(elapsed));
            let text = console::strip_ansi_codes(&shown).into_owned();
            assert_eq!(text.chars().count(), TIDE_COLUMNS, "at {elapsed}");
            assert!(
                text.starts_with("▁") && text.contains("█") && text.ends_with("▁"),
                "{text}"
            );
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{2009}234\u{2009}567");
    }
}
