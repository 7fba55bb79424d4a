//! Untagging and deleting, by Docker's rules.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use ferry_types::{Digest, ImageRef};

use super::records::Change;
use super::snapshot::Snapshot;
use super::{ImageStore, lock};
use crate::error::{DeleteConflict, ImageError, Result};
use crate::image::{ImageId, InUse, Removed};
use crate::options::RemoveOptions;

/// A removal being worked out on a clone of the metadata.
struct Removal<'a> {
    next: Snapshot,
    removed: Vec<Removed>,
    in_use: &'a dyn Fn(&ImageId) -> Option<InUse>,
}

impl ImageStore {
    /// Removes a name, or the image when that was its last one or it was given by id.
    ///
    /// `in_use` tells which container uses an image; it is called with the store's writer lock held and
    /// must not call back into the store.
    ///
    /// # Errors
    /// When there is no such image, or a conflict that Docker would report too.
    pub fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        in_use: &dyn Fn(&ImageId) -> Option<InUse>,
    ) -> Result<Vec<Removed>> {
        let _writer = lock(&self.writer);
        let before = self.snapshot();
        let id = before.resolve(name)?;
        let mut removal = Removal { next: (*before).clone(), removed: Vec::new(), in_use };
        removal.run(&id, name, options)?;
        let Removal { next, mut removed, .. } = removal;
        removed.extend(self.commit_removal(&before, next)?.into_iter().map(Removed::Deleted));
        Ok(removed)
    }

    /// Layers whose last image went while a lease held them.
    pub(super) fn remove_unused_layers(&self) -> Result<()> {
        let _writer = lock(&self.writer);
        let before = self.snapshot();
        if !before.unused_layers().is_empty() {
            self.commit_removal(&before, (*before).clone())?;
        }
        Ok(())
    }

    /// Writes down the difference between two snapshots, then frees the disk space. Gives the layers
    /// that went, topmost first.
    fn commit_removal(&self, before: &Arc<Snapshot>, mut next: Snapshot) -> Result<Vec<Digest>> {
        let change = Change::begin(&self.database)?;
        for reference in before.refs.keys().filter(|r| !next.refs.contains_key(r)) {
            change.delete_ref(&reference.to_string())?;
        }
        let gone: Vec<_> = before.images.values().filter(|i| !next.images.contains_key(&i.id)).collect();
        for image in &gone {
            change.delete_image(&image.id)?;
        }
        let leases = lock(&self.leases);
        let mut layers = Vec::new();
        for chain in next.unused_layers().into_iter().filter(|c| !leases.contains_key(c)) {
            change.delete_layer(&chain)?;
            if let Some(layer) = next.layers.remove(&chain) {
                layers.push((chain, layer));
            }
        }
        drop(leases);
        change.commit()?;
        let used: BTreeSet<_> =
            next.images.values().flat_map(|i| [Some(&i.id), i.manifest.as_ref()]).collect();
        for digest in gone.iter().flat_map(|i| [Some(&i.id), i.manifest.as_ref()]) {
            if let Some(digest) = digest
                && !used.contains(&Some(digest))
            {
                self.content.remove(digest);
            }
        }
        let depth = |chain: &Digest| {
            gone.iter().filter_map(|i| i.chain.iter().position(|c| c == chain)).max().unwrap_or(0)
        };
        layers.sort_by_key(|(chain, _)| std::cmp::Reverse(depth(chain)));
        self.publish(next);
        let paths: Vec<PathBuf> = layers.iter().map(|(_, l)| self.layer_path(&l.short)).collect();
        self.free(paths);
        Ok(layers.into_iter().map(|(chain, _)| chain).collect())
    }

    /// The metadata has forgotten these directories; what fails here is retried by the next open.
    fn free(&self, paths: Vec<PathBuf>) {
        for path in paths {
            if let Err(error) = self.trash.take(&path) {
                tracing::warn!(path = %path.display(), %error, "removed layer stays behind");
            }
        }
    }
}

impl Removal<'_> {
    fn run(&mut self, id: &ImageId, name: &str, options: RemoveOptions) -> Result<()> {
        let references = self.next.references(id);
        let mut quiet = false;
        if is_id_prefix(id, name) {
            // Given by id, with at most one tag and all names in one repository: they all go.
            if is_single(&references) {
                self.check(id, options.force, false)?;
                for reference in references {
                    self.untag(id, &reference);
                }
            }
        } else {
            if !options.force
                && is_single(&references)
                && let Some(user) = (self.in_use)(id)
            {
                return Err(ImageError::ReferenceInUse {
                    reference: name.to_owned(),
                    container: short(&user.container),
                    image: id.short().to_owned(),
                });
            }
            let reference = name.parse::<ImageRef>()?.tag_default();
            let reference = match reference.digest() {
                Some(digest) => reference.with_digest(digest.clone()),
                None => reference,
            };
            self.untag(id, &reference);
            if reference.digest().is_none() {
                self.untag_digests(id, &reference.repository());
            }
            if !self.next.references(id).is_empty() {
                return Ok(());
            }
            quiet = true;
        }
        self.delete(id, options.force, options.prune, quiet)
    }

    fn untag(&mut self, id: &ImageId, reference: &ImageRef) {
        if self.next.refs.remove(reference).is_some() {
            self.removed.push(Removed::Untagged(reference.familiar()));
            self.next.reindex(id);
        }
    }

    /// When the last tag of a repository went, its digests are of no use.
    fn untag_digests(&mut self, id: &ImageId, repository: &str) {
        let same: Vec<_> =
            self.next.references(id).into_iter().filter(|r| r.repository() == repository).collect();
        if same.iter().any(|r| r.digest().is_none()) {
            return;
        }
        for reference in same {
            self.untag(id, &reference);
        }
    }

    fn delete(&mut self, id: &ImageId, force: bool, prune: bool, quiet: bool) -> Result<()> {
        if let Err(conflict) = self.check(id, force, true) {
            let dangling = self.next.references(id).is_empty() && !self.next.has_children(id);
            let used = matches!(
                conflict,
                ImageError::DeleteConflict {
                    reason: DeleteConflict::Running(_) | DeleteConflict::Stopped(_),
                    ..
                }
            );
            // The name is gone, which is what was asked for; the image stays for whoever uses it.
            return if quiet && (!dangling || used) { Ok(()) } else { Err(conflict) };
        }
        for reference in self.next.references(id) {
            self.untag(id, &reference);
        }
        let parent = self.next.images.remove(id).and_then(|i| i.parent.clone());
        self.removed.push(Removed::Deleted(id.clone()));
        match parent {
            Some(parent) if prune && self.next.images.contains_key(&parent) => {
                self.delete(&parent, false, true, true)
            }
            _ => Ok(()),
        }
    }

    /// What stands against deleting the image; force overcomes what is not hard.
    fn check(&self, id: &ImageId, force: bool, references: bool) -> Result<()> {
        let conflict =
            |hard, reason| Err(ImageError::DeleteConflict { image: id.short().to_owned(), hard, reason });
        if self.next.has_children(id) {
            return conflict(true, DeleteConflict::Children);
        }
        let user = (self.in_use)(id);
        if let Some(user) = user.as_ref().filter(|u| u.running) {
            return conflict(true, DeleteConflict::Running(short(&user.container)));
        }
        if force {
            return Ok(());
        }
        if references && !self.next.references(id).is_empty() {
            return conflict(false, DeleteConflict::Referenced);
        }
        match user {
            Some(user) => conflict(false, DeleteConflict::Stopped(short(&user.container))),
            None => Ok(()),
        }
    }
}

fn short(container: &str) -> String {
    container.chars().take(12).collect()
}

fn is_id_prefix(id: &ImageId, name: &str) -> bool {
    id.as_str().starts_with(name) || id.hex().starts_with(name)
}

/// At most one tag, and all names in one repository.
fn is_single(references: &[ImageRef]) -> bool {
    let tags = references.iter().filter(|r| r.digest().is_none()).count();
    let repositories: BTreeSet<_> = references.iter().map(ImageRef::repository).collect();
    tags <= 1 && repositories.len() <= 1
}
