//! Active checks of members, each in a task of its own; the check itself is pingora's.

use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::l4::BindTo;
use pingora::lb::Backend;
use pingora::lb::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora::{Error, ErrorType};
use tokio_util::sync::CancellationToken;

use super::member::Member;
use super::spec::{Check, CheckBy};

/// How often a member that never passed yet is checked, when its interval is longer: a newcomer need not wait for the
/// next turn of a slow check. The number of checks in a row stays as configured.
const JOINING_INTERVAL: Duration = Duration::from_millis(500);

/// Checks the member until `until` is cancelled.
pub(crate) async fn watch(member: Arc<Member>, spec: Check, until: CancellationToken) {
    let interval = spec.interval;
    let endpoint = member.target.endpoint(spec.port);
    let (check, backend) = match prepare(&spec, &endpoint.to_string(), member.target.bound()) {
        Ok(prepared) => prepared,
        Err(error) => {
            tracing::error!(machine = member.target.machine, %error, "can't be checked");
            return;
        }
    };
    let timeout = spec.timeout;
    loop {
        let result = tokio::select! {
            () = until.cancelled() => return,
            result = tokio::time::timeout(timeout, check.check(&backend)) => result,
        };
        let result = match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(format!("no answer within {} s", spec.timeout.as_secs())),
        };
        if member.checked(result, spec.thresholds) {
            let healthy = member.is_healthy();
            tracing::info!(machine = member.target.machine, healthy, "member turned");
        }
        let pause = if member.is_joining() {
            interval.min(JOINING_INTERVAL)
        } else {
            interval
        };
        tokio::select! {
            () = until.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

type Prepared = (Box<dyn HealthCheck + Send + Sync>, Backend);

fn prepare(spec: &Check, endpoint: &str, bound: Option<BindTo>) -> Result<Prepared, Box<Error>> {
    let backend = Backend::new(endpoint)?;
    let timeout = Some(spec.timeout);
    match &spec.by {
        CheckBy::Tcp => {
            let mut check = TcpHealthCheck::new();
            check.peer_template.options.bind_to = bound;
            check.peer_template.options.connection_timeout = timeout;
            Ok((check, backend))
        }
        CheckBy::Http { path } => {
            let mut check: HttpHealthCheck = HttpHealthCheck::new(endpoint, false);
            check.req.set_uri(
                path.parse()
                    .map_err(|_| Error::new(ErrorType::InvalidHTTPHeader))?,
            );
            check.peer_template.options.bind_to = bound;
            check.peer_template.options.connection_timeout = timeout;
            check.peer_template.options.read_timeout = timeout;
            check.validator = Some(Box::new(|answer| match answer.status.as_u16() {
                200..400 => Ok(()),
                status => Err(Error::new(ErrorType::CustomCode("status", status))),
            }));
            Ok((Box::new(check), backend))
        }
    }
}

fn describe(error: &Error) -> String {
    match error.etype() {
        ErrorType::CustomCode(_, status) => format!("status {status}"),
        other => other.as_str().to_owned(),
    }
}
