//! The status API's JSON: what `GET /api/status` answers, the dashboard draws and `status --json` prints.
//!
//! Routes of the status port (loopback by default; off loopback every `/api` route wants `Authorization: Bearer <token>`):
//! - `GET /api/status` answers a [`Status`];
//! - `POST /api/pools/{name}/hold` (empty body) keeps the pool at its present size;
//! - `POST /api/pools/{name}/scale` with a [`ScaleRequest`] holds it at a size given by hand;
//! - `POST /api/pools/{name}/rollout` with a [`RolloutRequest`] replaces its members; the same with `/pause`, `/resume` or `/undo`
//!   behind it (empty body) stops, goes on or goes back; these answer the pool's [`RolloutStatus`];
//! - `POST /api/pools/{name}/resume` (empty body) gives it back to its policies; these three answer the pool's [`Mode`];
//! - `GET /metrics` (Prometheus text), `GET /livez`; everything else under `/` belongs to the dashboard's page, which is
//!   mounted by the daemon from `dashboard::page() -> poem::Route`.
//!
//! Failures are `{"error": "<one sentence>"}` with status 400 (bad size), 401, 404 (no such pool), 409 (not observed yet,
//! no rollout to change), 502 (the provider can't be asked).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::members::MemberState;
use tidepool_autoscaler_core::observe::{MemberId, MemberName, PoolName, UnixMillis};
use tidepool_autoscaler_core::rollout::Stage;

/// At most so many points of history a pool: one hour at one point every 5 s. With a shorter tick, ticks that come sooner
/// replace the newest point.
pub const HISTORY_POINTS_MAX: usize = 720;
/// At most so many decisions a pool in the answer: those that changed something or had a new reason.
pub const DECISIONS_MAX: usize = 50;

/// The answer of `GET /api/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// When this answer was made, milliseconds since 1970.
    pub now: UnixMillis,
    /// Seconds between two ticks: how often a page need ask.
    pub tick_secs: u32,
    /// Every configured pool, in the configuration's order.
    pub pools: Vec<PoolStatus>,
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PoolStatus {
    /// Its name.
    pub name: PoolName,
    /// The provider's kind, such as `digitalocean`.
    pub provider: String,
    /// Lower limit.
    pub min: u32,
    /// Upper limit.
    pub max: u32,
    /// Members that count: booting, ready, serving, unready, and creates whose answer is awaited; not draining, not dead.
    pub actual: u32,
    /// What the last decision wants.
    pub desired: u32,
    /// What the last plan leads to: `desired` as far as the step limits let it.
    pub planned: u32,
    /// Members in the load balancer and ready.
    pub serving: u32,
    /// Who decides about the size.
    pub mode: Mode,
    /// When the last tick ended; `null` before the first.
    pub last_tick_at: Option<UnixMillis>,
    /// Why the last tick failed, or which step is not done since when it failed; `null` when all is well.
    pub last_error: Option<String>,
    /// What else an operator should know, a sentence each: members that can't be understood or aren't listed, tags that
    /// the provider spells differently, state that was damaged.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The last rollout that was ordered; `null` where there was none.
    #[serde(default)]
    pub rollout: Option<RolloutStatus>,
    /// Members, oldest first.
    pub members: Vec<MemberStatus>,
    /// One for each policy that goes by a signal, in the configuration's order.
    pub signals: Vec<SignalStatus>,
    /// The last hour, oldest first; at most [`HISTORY_POINTS_MAX`].
    pub history: Vec<HistoryPoint>,
    /// The last decisions, newest first; at most [`DECISIONS_MAX`].
    pub decisions: Vec<DecisionStatus>,
}

/// Who decides about a pool's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mode {
    /// Its policies.
    Auto,
    /// Held at the size it had when `hold` was said.
    Hold {
        /// Members.
        size: u32,
    },
    /// Held at the size given by `scale`.
    Manual {
        /// Members.
        size: u32,
    },
}

/// A rollout: what the pool's members shall be made of, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutStatus {
    /// What members shall be made of: name, image and size, in words. User data is never shown.
    pub to: String,
    /// What they were made of before, and go back to.
    pub from: Option<String>,
    /// `running`, `paused` or `done`.
    pub stage: Stage,
    /// It is the way back from one.
    pub back: bool,
    /// Why it goes back or was stopped.
    pub cause: Option<String>,
    /// When it was ordered, milliseconds since 1970.
    pub ordered_at: UnixMillis,
    /// How many members are still to be replaced; `null` before the first tick after the order.
    pub left: Option<u32>,
}

/// The body of `POST /api/pools/{name}/rollout`; what is left out stays as it is.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The image's number or slug.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// What people call it, such as `api 0.3.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The size, such as `s-1vcpu-1gb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// What cloud-init gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The provider's id.
    pub id: MemberId,
    /// Our name.
    pub name: MemberName,
    /// `booting`, `ready`, `serving`, `unready`, `off`, `draining`, `unknown` or `dead`.
    pub state: MemberState,
    /// When it was made.
    pub created_at: UnixMillis,
    /// Its address; `null` while it has none.
    pub address: Option<IpAddr>,
    /// The image it was made from.
    pub image: String,
    /// A rollout that is under way replaces it.
    #[serde(default)]
    pub outdated: bool,
    /// Its newest fresh value of each signal, by the signal's name.
    pub signals: BTreeMap<String, f64>,
    /// Why it has no whole, fresh value of a signal, by the signal's name.
    #[serde(default)]
    pub signal_problems: BTreeMap<String, String>,
}

/// How far a signal can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignalState {
    /// Every expected host has a fresh value.
    Fresh,
    /// Some have.
    Partial,
    /// None has a fresh one, some have old ones.
    Stale,
    /// Nothing at all, or the source failed.
    Missing,
}

/// A policy's signal in the last tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalStatus {
    /// The policy's name.
    pub name: String,
    /// How far it can be trusted.
    pub state: SignalState,
    /// Its value across hosts; `null` when stale or missing.
    pub value: Option<f64>,
    /// What the policy steers towards, in the same unit; `null` for a policy without such a value.
    pub target: Option<f64>,
    /// Age of the newest sample, seconds; `null` when there is none.
    pub age_secs: Option<f64>,
    /// Hosts with a fresh value, of those expected.
    pub hosts_fresh: u32,
    /// Hosts that should have one.
    pub hosts_expected: u32,
    /// What is wrong, in words; `null` when fresh.
    pub detail: Option<String>,
}

/// One tick in the pool's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// When.
    pub at: UnixMillis,
    /// See [`PoolStatus::actual`].
    pub actual: u32,
    /// See [`PoolStatus::desired`].
    pub desired: u32,
    /// See [`PoolStatus::serving`].
    pub serving: u32,
    /// Lower limit at that time.
    pub min: u32,
    /// Upper limit at that time.
    pub max: u32,
    /// Each signal by name; a signal that was stale or missing is left out.
    pub signals: BTreeMap<String, SignalPoint>,
}

/// A signal's value and target at one time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SignalPoint {
    /// Across hosts.
    pub value: f64,
    /// Of the policy; `null` where it has none.
    pub target: Option<f64>,
}

/// Which way a decision went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More members.
    Out,
    /// Fewer.
    In,
    /// As it is.
    None,
}

/// One decision with what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionStatus {
    /// When.
    pub at: UnixMillis,
    /// Which way.
    pub direction: Direction,
    /// Members that counted.
    pub actual: u32,
    /// What it wants.
    pub desired: u32,
    /// What this tick's plan leads to.
    pub planned: u32,
    /// Why, in one sentence.
    pub reason: String,
    /// The formulas with their numbers, one a policy.
    pub formulas: Vec<String>,
    /// The plan's steps and what came of each.
    pub steps: Vec<StepStatus>,
}

/// One step of a plan and its outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepStatus {
    /// `create`, `admit`, `mark_draining`, `withdraw`, `drain`, `shutdown`, `power_off` or `destroy`.
    pub step: String,
    /// The member's name.
    pub member: MemberName,
    /// `done`, `failed`, `unknown` or `skipped`.
    pub outcome: String,
    /// The provider's words, when it is not done.
    pub detail: Option<String>,
}

/// The body of `POST /api/pools/{name}/scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// How many members, within the pool's min and max.
    pub size: u32,
}
