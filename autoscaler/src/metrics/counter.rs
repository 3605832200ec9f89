//! How much a counter grew, by readings that may lie. Pure.
//!
//! A counter only counts up, and starts from zero when its program does. What fits neither is not known to be growth: a
//! value that is there once and gone again, the counters of two programs that answer in turn, a leap that the other
//! readings don't bear out. Such a counter has no growth at all until it is out of the window (docs/adr/0107).

use std::collections::BTreeMap;

use tidepool_autoscaler_core::observe::UnixMillis;

use super::fault::Fault;

/// A counter that falls below half of what it was has been reset. One that falls by less may as well have been read out of
/// order, or be two counters of one name, so that what it counted since is not known.
const RESET_SHARE: f64 = 0.5;
/// A leap is a step that is more than so many times as fast as the others of its counter …
const LEAP_TIMES: f64 = 10.0;
/// … and counts at least so much: a counter that hardly counts has no pace …
const LEAP_MIN: f64 = 100.0;
/// … and adds more than this share to all that was counted before: what is small beside that may be a burst.
const LEAP_SHARE: f64 = 0.1;
/// The share where there is no other step to compare with.
const LEAP_SHARE_ALONE: f64 = 1.0;
/// The pace of a step is over this time at least.
const STEP_SECS_MIN: f64 = 0.5;

/// From one reading to the next.
#[derive(Debug, Clone, Copy)]
struct Step {
    before: f64,
    after: f64,
    secs: f64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rise,
    /// It has counted up from zero since.
    Reset,
    /// It fell, but not as far as a reset does.
    Back,
}

/// The growth over all readings, or why it isn't known.
pub(super) fn growth(readings: &BTreeMap<UnixMillis, f64>) -> Result<f64, Fault> {
    let steps: Vec<Step> = readings
        .iter()
        .zip(readings.iter().skip(1))
        .map(|((from, before), (to, after))| Step::new(*before, *after, to.secs_since(*from)))
        .collect();
    let mut of_kind = steps.iter().filter(|step| step.kind == Kind::Back);
    let back = of_kind.next();
    let mut resets = steps.iter().filter(|step| step.kind == Kind::Reset);
    let repeated = resets.nth(1);
    match back
        .or(repeated)
        .or_else(|| came_back(&steps))
        .or_else(|| leap(&steps))
    {
        Some(doubtful) => Err(doubtful.fault()),
        None => Ok(steps.iter().map(Step::growth).sum()),
    }
}

impl Step {
    fn new(before: f64, after: f64, secs: f64) -> Step {
        let kind = if after >= before {
            Kind::Rise
        } else if after < before * RESET_SHARE {
            Kind::Reset
        } else {
            Kind::Back
        };
        Step {
            before,
            after,
            secs: secs.max(STEP_SECS_MIN),
            kind,
        }
    }

    fn growth(&self) -> f64 {
        match self.kind {
            Kind::Rise => self.after - self.before,
            Kind::Reset => self.after,
            Kind::Back => 0.0,
        }
    }

    fn per_sec(&self) -> f64 {
        self.growth() / self.secs
    }

    /// What had been counted when it began.
    fn base(&self) -> f64 {
        match self.kind {
            Kind::Rise | Kind::Back => self.before,
            Kind::Reset => 0.0,
        }
    }

    /// A rise from below half of `top`.
    fn rises_far(&self, top: f64) -> bool {
        self.kind == Kind::Rise && self.before < top * RESET_SHARE
    }

    /// Whether it counts more than a burst may.
    fn is_large(&self, share: f64) -> bool {
        self.growth() >= LEAP_MIN && self.growth() > share * self.base()
    }

    fn fault(&self) -> Fault {
        let (before, after) = (self.before, self.after);
        if self.kind == Kind::Back {
            Fault::WentBack { before, after }
        } else {
            Fault::Leap { before, after }
        }
    }
}

/// A fall that ends where the counter was before it rose at once, or that it made good at once.
fn came_back(steps: &[Step]) -> Option<&Step> {
    let (place, reset) = steps
        .iter()
        .enumerate()
        .find(|(_, step)| step.kind == Kind::Reset)?;
    let (peak, low) = (reset.before, reset.after);
    let mut before = steps.iter().take(place);
    let mut after = steps.iter().skip(place + 1);
    let spike = before.find(|step| {
        let was_near = step.before <= low && step.before >= low * RESET_SHARE;
        was_near && low < step.after && step.rises_far(step.after)
    });
    spike.or_else(|| after.find(|step| step.after >= peak && step.rises_far(peak)))
}

/// A rise that is out of all proportion to the others: neither the one before it or after it nor two others are nearly as
/// fast. Or a reset that ends higher than any rise explains.
fn leap(steps: &[Step]) -> Option<&Step> {
    let rises = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.kind == Kind::Rise);
    let rises: Vec<(usize, &Step)> = rises.collect();
    let is_borne_out = |place: usize, step: &Step| {
        let mut alike = rises
            .iter()
            .filter(|(other, rise)| *other != place && step.per_sec() <= LEAP_TIMES * rise.per_sec());
        let beside = |(other, _): &(usize, &Step)| other.abs_diff(place) == 1;
        alike.clone().any(beside) || alike.nth(1).is_some()
    };
    let mut odd = rises.iter().filter(|(place, step)| !is_borne_out(*place, step));
    let share = if rises.len() > 1 {
        LEAP_SHARE
    } else {
        LEAP_SHARE_ALONE
    };
    if let Some((_, rise)) = odd.find(|(_, step)| step.is_large(share)) {
        return Some(rise);
    }
    let fastest = rises.iter().map(|(_, rise)| rise.per_sec()).fold(0.0, f64::max);
    let mut resets = steps.iter().filter(|step| step.kind == Kind::Reset);
    resets.find(|step| step.per_sec() > LEAP_TIMES * fastest && step.is_large(LEAP_SHARE))
}
