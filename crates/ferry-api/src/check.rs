//! `GET` and `POST /ferry/system/check`: an extension of ferry's; Docker has nothing like it.

use serde::{Deserialize, Serialize};

use crate::json::{List, is_zero};

/// What a check of everything an engine keeps has found, and, when it was asked to, mended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckReport {
    /// Everything that is not as it should be.
    pub problems: List<CheckProblem>,
    /// What was set aside earlier, by repairs and by starts of the engine.
    pub set_aside: List<SetAsideEntry>,
    /// How much was looked at.
    pub images: usize,
    /// Layers of images.
    pub layers: usize,
    /// Containers' records.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
    /// Every byte of every layer was read.
    pub deep: bool,
    /// Problems were to be mended.
    pub repair: bool,
}

/// One problem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CheckProblem {
    /// `image`, `container`, `volume`, `network`, `cgroup` or `run`.
    pub area: String,
    /// The file, directory or device.
    pub path: String,
    /// What is wrong.
    pub problem: String,
    /// What a repair does about it, or did.
    pub remedy: String,
    /// `found`; after a repair `repaired`, `left` or `failed`.
    pub state: String,
    /// Why a repair failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub error: String,
}

/// Something in `lost+found`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SetAsideEntry {
    /// Its directory.
    pub path: String,
    /// Why it is there.
    pub reason: String,
}
