//! The OCI runtime: executes a runtime-spec `config.json`.
#![forbid(unsafe_code)]
