//! Faults the tests inject into the steps of `attach`; nothing at all in a build for use.

use crate::error::NetworkError;

/// The steps of `attach`, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Address,
    Ports,
    Sandbox,
    Configure,
    Publish,
    Register,
}

#[cfg(test)]
impl Step {
    pub(crate) const ALL: [Self; 6] =
        [Self::Address, Self::Ports, Self::Sandbox, Self::Configure, Self::Publish, Self::Register];
    /// Those of a network without ports to publish.
    pub(crate) const WITHOUT_BRIDGE: [Self; 3] = [Self::Address, Self::Configure, Self::Register];
}

/// Which step fails next.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    pub(crate) next: std::sync::Mutex<Option<Step>>,
}

impl Faults {
    /// Called when a step has done its work.
    #[cfg(test)]
    pub(crate) fn after(&self, step: Step) -> Result<(), NetworkError> {
        let mut next = self.next.lock().expect("no test panics while it holds this");
        if *next == Some(step) {
            *next = None;
            return Err(NetworkError::Unsupported("surviving an injected fault"));
        }
        Ok(())
    }

    /// Called when a step has done its work.
    #[cfg(not(test))]
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "the shape of the tests' version")]
    pub(crate) fn after(&self, _: Step) -> Result<(), NetworkError> {
        Ok(())
    }
}
