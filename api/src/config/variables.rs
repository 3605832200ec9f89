//! Variables that look like settings and aren't any: a setting that isn't read must not go unnoticed.

use super::Problem;
use super::settings::{CONFIG_ENV, SETTINGS};

/// What settings' variables begin with.
const PREFIX: &str = "TIDEPOOL_";

/// So many letters wrong are a typing error. No variable that others set is as near to one of ours.
const TYPING_ERRORS_MAX: usize = 2;

/// Variables of Tidepool's other programs.
const OF_OTHERS: [&str; 8] = [
    "TIDEPOOL_AUTOSCALER_",
    "TIDEPOOL_LOCAL_CLOUD_",
    "TIDEPOOL_DEMO_",
    "TIDEPOOL_TEST_",
    "TIDEPOOL_BENCH_",
    "TIDEPOOL_CACHE",
    "TIDEPOOL_BIN_DIR",
    "TIDEPOOL_KEY",
];

/// Of a service named `tidepool` or `tidepool-api` Kubernetes tells every container in such variables.
fn is_of_kubernetes(name: &str) -> bool {
    let has_port = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| has_port(rest))
}

/// Those that are not settings, sorted; what is nearly one is a problem.
pub(super) fn unknown(names: &[String], problems: &mut Vec<Problem>) -> Vec<String> {
    let known = || SETTINGS.iter().map(|setting| setting.env).chain([CONFIG_ENV]);
    let mut unknown = Vec::new();
    for name in names {
        let upper = name.to_ascii_uppercase();
        if !upper.starts_with(PREFIX) || known().any(|known| known == name) {
            continue;
        }
        let is_of_others = name == "TIDEPOOL_LOG" || OF_OTHERS.iter().any(|prefix| name.starts_with(prefix));
        if is_of_others || is_of_kubernetes(name) {
            continue;
        }
        let nearest = known()
            .map(|known| (strsim::damerau_levenshtein(&upper, known), known))
            .min();
        match nearest {
            Some((distance, known)) if distance <= TYPING_ERRORS_MAX => problems.push(Problem {
                place: name.clone(),
                detail: format!("is not a setting; did you mean {known}"),
            }),
            _ => unknown.push(name.clone()),
        }
    }
    unknown.sort();
    unknown
}
