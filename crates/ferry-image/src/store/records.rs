//! Image metadata in the database: what is written down, and nothing that can be derived from it.
//! Reference counts of layers are such: they are counted from the images, so they cannot be wrong.

use std::collections::BTreeMap;

use ferry_types::Digest;
use jiff::Timestamp;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::error::{ImageError, Result};
use crate::image::ImageId;

/// Image id → [`ImageRecord`] as JSON.
const IMAGES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("image/images");
/// Full reference → image id.
const REFS: TableDefinition<'_, &str, &str> = TableDefinition::new("image/refs");
/// Chain id → [`LayerRecord`] as JSON.
const LAYERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("image/layers");

/// What is stored of an image besides its config.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    pub chain: Vec<Digest>,
    pub size: u64,
    #[serde(default)]
    pub parent: Option<ImageId>,
    #[serde(default)]
    pub manifest: Option<Digest>,
    #[serde(default)]
    pub last_tagged: Option<Timestamp>,
}

/// What is stored of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LayerRecord {
    /// Name of its directory below `layers/`.
    pub short: String,
    pub diff_id: Digest,
    /// Unpacked bytes.
    pub size: u64,
    /// Bytes of the tar.
    pub tar_size: u64,
}

/// Everything, as read on open.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Records {
    pub images: BTreeMap<ImageId, ImageRecord>,
    pub refs: BTreeMap<String, ImageId>,
    pub layers: BTreeMap<Digest, LayerRecord>,
}

pub(super) fn db(error: impl Into<redb::Error>) -> ImageError {
    ImageError::Metadata(Box::new(error.into()))
}

fn decode<T: for<'de> Deserialize<'de>>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|source| ImageError::Record { key: key.to_owned(), source })
}

fn key_digest(key: &str) -> Result<Digest> {
    use serde::de::Error;
    key.parse().map_err(|e| ImageError::Record {
        key: key.to_owned(),
        source: serde_json::Error::custom(format!("{e}")),
    })
}

/// Reads all tables, making them first if this is a new database.
pub(super) fn read_all(database: &redb::Database) -> Result<Records> {
    let create = database.begin_write().map_err(db)?;
    create.open_table(IMAGES).map_err(db)?;
    create.open_table(REFS).map_err(db)?;
    create.open_table(LAYERS).map_err(db)?;
    create.commit().map_err(db)?;

    let read = database.begin_read().map_err(db)?;
    let mut records = Records::default();
    for row in read.open_table(IMAGES).map_err(db)?.iter().map_err(db)? {
        let (key, value) = row.map_err(db)?;
        records.images.insert(key_digest(key.value())?, decode(key.value(), value.value())?);
    }
    for row in read.open_table(REFS).map_err(db)?.iter().map_err(db)? {
        let (key, value) = row.map_err(db)?;
        records.refs.insert(key.value().to_owned(), key_digest(value.value())?);
    }
    for row in read.open_table(LAYERS).map_err(db)?.iter().map_err(db)? {
        let (key, value) = row.map_err(db)?;
        records.layers.insert(key_digest(key.value())?, decode(key.value(), value.value())?);
    }
    Ok(records)
}

/// One atomic change; nothing is written until [`Self::commit`].
pub(super) struct Change(WriteTransaction);

impl Change {
    pub fn begin(database: &redb::Database) -> Result<Self> {
        Ok(Self(database.begin_write().map_err(db)?))
    }

    pub fn put_image(&self, id: &ImageId, record: &ImageRecord) -> Result<()> {
        self.put(IMAGES, id, record)
    }

    pub fn put_layer(&self, chain: &Digest, record: &LayerRecord) -> Result<()> {
        self.put(LAYERS, chain, record)
    }

    fn put<T: Serialize>(
        &self,
        table: TableDefinition<'_, &str, &[u8]>,
        key: &Digest,
        record: &T,
    ) -> Result<()> {
        let value = serde_json::to_vec(record)
            .map_err(|source| ImageError::Record { key: key.to_string(), source })?;
        let mut table = self.0.open_table(table).map_err(db)?;
        table.insert(key.as_str(), value.as_slice()).map_err(db)?;
        Ok(())
    }

    pub fn delete_image(&self, id: &ImageId) -> Result<()> {
        self.0.open_table(IMAGES).map_err(db)?.remove(id.as_str()).map_err(db)?;
        Ok(())
    }

    pub fn delete_layer(&self, chain: &Digest) -> Result<()> {
        self.0.open_table(LAYERS).map_err(db)?.remove(chain.as_str()).map_err(db)?;
        Ok(())
    }

    pub fn put_ref(&self, reference: &str, id: &ImageId) -> Result<()> {
        self.0.open_table(REFS).map_err(db)?.insert(reference, id.as_str()).map_err(db)?;
        Ok(())
    }

    pub fn delete_ref(&self, reference: &str) -> Result<()> {
        self.0.open_table(REFS).map_err(db)?.remove(reference).map_err(db)?;
        Ok(())
    }

    pub fn commit(self) -> Result<()> {
        self.0.commit().map_err(db)
    }
}
