//! Volumes: a directory with data and a record each. Data is never touched.

use std::fs;

use super::{Check, Outcome, leave};
use crate::volume::{VolumeRecord, is_unfinished};

impl Check<'_> {
    pub(super) fn volumes(&mut self) {
        let root = self.inner.paths.volumes();
        let Ok(entries) = fs::read_dir(&root) else { return };
        for entry in entries.flatten() {
            let dir = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                let problem = "a name that is no text cannot be a volume's".to_owned();
                self.problem("volume", &dir, problem, "leave it alone", |_| {
                    leave("it may be somebody's data")
                });
                continue;
            };
            if is_unfinished(&name) {
                continue;
            }
            if !dir.join("_data").is_dir() {
                let empty = fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none());
                let remedy = if empty { "remove the empty directory" } else { "set it aside" };
                self.problem(
                    "volume",
                    &dir,
                    "it is no volume: it has no _data".to_owned(),
                    remedy,
                    |check| {
                        if empty {
                            fs::remove_dir(&dir).map_err(|e| e.to_string())?;
                            return Ok(Outcome::Repaired("removed".to_owned()));
                        }
                        check.set_aside(&dir, "in the volumes' directory, but no volume")
                    },
                );
                continue;
            }
            self.report.volumes += 1;
            self.volume_record(&name);
        }
    }

    fn volume_record(&mut self, name: &str) {
        let path = self.inner.paths.volumes().join(name).join("volume.json");
        let problem = match fs::read(&path) {
            Err(error) => format!("the volume's record cannot be read: {error}"),
            Ok(json) => match serde_json::from_slice::<VolumeRecord>(&json) {
                Err(error) => format!("the volume's record is damaged: {error}"),
                Ok(record) if record.name != name => {
                    format!("the volume's record is of another volume, {:?}", record.name)
                }
                Ok(_) => return,
            },
        };
        self.problem(
            "volume",
            &path,
            problem,
            "set the record aside and write a new one; the data stays",
            |check| {
                if path.exists() {
                    check.set_aside(&path, &format!("damaged record of volume {name}"))?;
                }
                check.inner.volumes.write_again(name).map_err(|e| e.to_string())?;
                Ok(Outcome::Repaired("a new record is written; labels and options are lost".to_owned()))
            },
        );
    }
}
