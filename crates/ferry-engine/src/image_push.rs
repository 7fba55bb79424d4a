//! `push`: so far only what is to be refused before anything is sent.

use ferry_api::JsonMessage;
use ferry_types::ImageRef;

use crate::Engine;
use crate::api::ItemStream;
use crate::error::{EngineError, Result};

impl Engine {
    /// Sends an image to a registry. Without a tag, all names of the repository are meant.
    pub fn image_push(&self, name: &str, tag: Option<&str>) -> Result<ItemStream<JsonMessage>> {
        let invalid = |e: ferry_types::ImageRefError| EngineError::InvalidParameter(e.to_string());
        let reference: ImageRef = name.parse().map_err(invalid)?;
        let repository = reference.repository();
        let wanted = match tag.filter(|t| !t.is_empty()) {
            Some(tag) => Some(reference.with_tag(tag).map_err(invalid)?),
            None if reference.tag().is_some() || reference.digest().is_some() => Some(reference.clone()),
            None => None,
        };
        let meant = |known: &ImageRef| match &wanted {
            Some(wanted) => known == wanted,
            None => known.repository() == repository,
        };
        if self.inner.images.list().iter().any(|image| image.repo_tags.iter().any(meant)) {
            return Err(EngineError::NotSupported(
                "pushing images: not supported by this version of ferry".to_owned(),
            ));
        }
        // As Docker: the request is good, its stream ends with the error.
        let messages = [
            JsonMessage {
                status: format!("The push refers to repository [{}]", reference.repository()),
                ..JsonMessage::default()
            },
            JsonMessage::error(format!(
                "An image does not exist locally with the tag: {}",
                reference.familiar_name()
            )),
        ];
        Ok(Box::pin(futures_util::stream::iter(messages.map(Ok))))
    }
}
