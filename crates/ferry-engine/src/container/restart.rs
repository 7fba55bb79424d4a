//! Restart policies: a pure decision and its back-off.

use std::time::Duration;

/// First delay before a restart; doubles with every further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A run this long starts the back-off anew.
const STABLE_RUN: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    No,
    Always,
    UnlessStopped,
    /// With the largest number of restarts, 0 for no limit.
    OnFailure(u32),
}

impl RestartPolicy {
    /// Reads Docker's name and retry count; the error texts are Docker's.
    pub fn parse(name: &str, maximum_retry_count: i64) -> Result<Self, String> {
        let policy = match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => {
                let count = u32::try_from(maximum_retry_count).map_err(|_| {
                    "invalid restart policy: maximum retry count cannot be negative".to_owned()
                })?;
                return Ok(Self::OnFailure(count));
            }
            other => {
                return Err(format!(
                    "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
                ));
            }
        };
        if maximum_retry_count != 0 {
            return Err(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{}",
                if maximum_retry_count < 0 { " and cannot be negative" } else { "" }
            ));
        }
        Ok(policy)
    }

    /// Whether a container that ended with `code` comes back.
    pub fn restarts(self, code: i32, stopped_by_user: bool, restarts_so_far: u32) -> bool {
        match self {
            Self::No => false,
            Self::Always | Self::UnlessStopped => !stopped_by_user,
            Self::OnFailure(limit) => {
                !stopped_by_user && code != 0 && (limit == 0 || restarts_so_far < limit)
            }
        }
    }

    /// Whether a stopped container is started when the engine starts.
    pub fn starts_with_engine(self, code: i32, stopped_by_user: bool, restarts_so_far: u32) -> bool {
        match self {
            Self::Always => true,
            Self::No | Self::UnlessStopped | Self::OnFailure(_) => {
                self.restarts(code, stopped_by_user, restarts_so_far)
            }
        }
    }
}

/// How long to wait before the next restart.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Backoff {
    next: Option<Duration>,
}

impl Backoff {
    /// The delay after a run of this length.
    pub fn next_delay(&mut self, ran_for: Duration) -> Duration {
        let delay = match self.next {
            Some(next) if ran_for < STABLE_RUN => next,
            _ => FIRST_DELAY,
        };
        self.next = Some((delay * 2).min(MAX_DELAY));
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_decide_as_dockers() {
        use RestartPolicy::*;
        assert!(!No.restarts(1, false, 0));
        assert!(Always.restarts(0, false, 99) && !Always.restarts(0, true, 0));
        assert!(OnFailure(0).restarts(1, false, 99) && !OnFailure(0).restarts(0, false, 0));
        assert!(OnFailure(2).restarts(1, false, 1) && !OnFailure(2).restarts(1, false, 2));
        assert!(Always.starts_with_engine(0, true, 0) && !UnlessStopped.starts_with_engine(0, true, 0));
    }

    #[test]
    fn bad_policies_are_refused() {
        assert!(RestartPolicy::parse("sometimes", 0).is_err());
        assert!(RestartPolicy::parse("always", 3).is_err());
        assert!(RestartPolicy::parse("on-failure", -1).is_err());
        assert_eq!(RestartPolicy::parse("on-failure", 3), Ok(RestartPolicy::OnFailure(3)));
    }

    #[test]
    fn backoff_doubles_up_to_a_minute_and_recovers() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay(short).as_millis()).collect();
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!(delays[11], 60_000);
        assert_eq!(backoff.next_delay(Duration::from_secs(11)), FIRST_DELAY);
    }
}
