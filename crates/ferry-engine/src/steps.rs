//! Multi-step work that can be undone: every step done registers its undo; a failure rolls back in reverse
//! order, goes on after errors and reports all of them.

/// Undo work of one step; says what went wrong.
type Undo = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// The steps done so far.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(&'static str, Undo)>,
}

impl Steps {
    /// Registers how to undo a step that was just done.
    pub fn done(&mut self, step: &'static str, undo: impl FnOnce() -> Result<(), String> + Send + 'static) {
        self.done.push((step, Box::new(undo)));
    }

    /// Undoes everything, last step first. Problems are logged: the caller has a more important error.
    pub fn roll_back(self) {
        for (step, undo) in self.done.into_iter().rev() {
            if let Err(error) = undo() {
                tracing::warn!(step, error, "undoing a step failed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn undo_runs_backwards_and_past_errors() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut steps = Steps::default();
        for n in 0..3 {
            let order = Arc::clone(&order);
            steps.done("step", move || {
                order.lock().unwrap().push(n);
                if n == 1 { Err("no".to_owned()) } else { Ok(()) }
            });
        }
        steps.roll_back();
        assert_eq!(*order.lock().unwrap(), [2, 1, 0]);
    }
}
