//! `system check`: everything the engine keeps is compared with what is there. A problem says where it is and
//! what would be done about it; a repair does that. Nothing is deleted that anybody may want back: it is
//! moved to `<data-root>/lost+found`, and volumes and writable layers of containers stay where they are as long
//! as a container can use them.

mod containers;
mod host;
mod images;
mod networks;
mod volumes;

use std::path::Path;
use std::sync::Arc;

use ferry_api::check::{CheckProblem, CheckReport, SetAsideEntry};
use ferry_image::LostFound;

use crate::Engine;
use crate::error::Result;
use crate::inner::Inner;

/// What a check shall do.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// Read every byte of every layer.
    pub deep: bool,
    /// Mend what can be mended.
    pub repair: bool,
}

impl Engine {
    /// Looks at images, layers, containers' records, volumes, and what containers left on the host.
    ///
    /// # Errors
    /// When the data root cannot be read at all; everything else is a problem of the report.
    pub async fn check(&self, options: CheckOptions) -> Result<CheckReport> {
        let inner = Arc::clone(&self.inner);
        crate::blocking(move || {
            let mut check = Check {
                aside: LostFound::new(inner.paths.lost_found()),
                report: CheckReport { deep: options.deep, repair: options.repair, ..CheckReport::default() },
                inner: &inner,
                options,
            };
            check.images()?;
            check.volumes();
            check.containers();
            check.run_directories();
            check.cgroups();
            check.networks();
            check.firewall();
            let entries = check
                .aside
                .list()
                .into_iter()
                .map(|entry| SetAsideEntry { path: entry.path.display().to_string(), reason: entry.reason });
            check.report.set_aside = entries.collect::<Vec<_>>().into();
            Ok(check.report)
        })
        .await
    }
}

/// A check under way.
struct Check<'a> {
    inner: &'a Inner,
    options: CheckOptions,
    aside: LostFound,
    report: CheckReport,
}

/// What became of a problem that was to be mended.
enum Outcome {
    /// In which way it was mended.
    Repaired(String),
    /// Why it stays as it is.
    Left(String),
}

impl Check<'_> {
    /// Notes a problem; `mend` is called when problems are to be mended.
    fn problem(
        &mut self,
        area: &str,
        path: &Path,
        problem: String,
        remedy: &str,
        mend: impl FnOnce(&Self) -> Result<Outcome, String>,
    ) {
        let mut entry = CheckProblem {
            area: area.to_owned(),
            path: path.display().to_string(),
            problem,
            remedy: remedy.to_owned(),
            state: "found".to_owned(),
            error: String::new(),
        };
        if self.options.repair {
            match mend(self) {
                Ok(Outcome::Repaired(how)) => {
                    tracing::info!(path = entry.path, problem = entry.problem, how, "repaired");
                    (entry.state, entry.remedy) = ("repaired".to_owned(), how);
                }
                Ok(Outcome::Left(why)) => (entry.state, entry.remedy) = ("left".to_owned(), why),
                Err(error) => (entry.state, entry.error) = ("failed".to_owned(), error),
            }
        }
        self.report.problems.get_mut().push(entry);
    }

    /// Moves something to `lost+found`.
    fn set_aside(&self, path: &Path, reason: &str) -> Result<Outcome, String> {
        let to = self.aside.take(path, reason).map_err(|e| e.to_string())?;
        Ok(Outcome::Repaired(format!("moved to {}", to.display())))
    }
}

/// For problems nothing can be done about without a decision of somebody's.
fn leave(why: &str) -> Result<Outcome, String> {
    Ok(Outcome::Left(why.to_owned()))
}
