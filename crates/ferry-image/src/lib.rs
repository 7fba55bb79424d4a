//! Images on disk: content store, unpacked layers, image metadata, and the archives they travel in.
//!
//! Synchronous throughout; the engine calls it from blocking threads. Nothing here talks to a
//! registry, mounts anything or knows about containers beyond the [`InUse`] answer it is given.
//!
//! ```text
//! root/content/sha256/<hex>     image configs and manifests
//! root/layers/<short>/diff      a layer, unpacked once, ready to be an overlayfs lowerdir
//! root/layers/<short>/recipe    what is needed to rebuild the layer's tar bit for bit
//! root/metadata.json            a copy of the database, for the day it is damaged
//! root/partial/<hex>            interrupted downloads
//! root/tmp/                     ingests in progress; emptied on open
//! root/trash/                   what is being deleted
//! ```

#![forbid(unsafe_code)]

pub mod archive;
pub mod aside;
pub mod config;
pub mod copy;
pub mod error;
pub mod image;
pub mod instruction;
pub mod layer;
pub mod options;
pub mod store;

pub use aside::{LostFound, SetAside};
pub use config::{ContainerConfig, Healthcheck, History, ImageConfig, RootFs};
pub use error::{ImageError, Result};
pub use image::{Image, ImageId, InUse, Platform, Removed};
pub use layer::changes::{Change, ChangeKind, changes};
pub use layer::diff::{diff_tar, export};
pub use layer::ingest::{Expected, LayerIngest, PendingLayer, StagedLayer};
pub use options::{
    CommitOptions, DiskUsage, ImportOptions, LayerDescriptor, LoadProgress, LoadedImage, RemoveOptions,
};
pub use store::{
    Checked, Defect, DefectKind, ImageStore, LayerLease, LayerSource, Mended, Partial, Rebuilt, Registration,
    chain_ids,
};
