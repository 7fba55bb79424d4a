//! Output of lists and objects: tables, JSON, Go templates.

pub mod go;
pub mod json;
pub mod listing;
pub mod progress;
pub mod table;
pub mod template;
