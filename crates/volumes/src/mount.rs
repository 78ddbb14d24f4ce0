//! From a view to a target path, and back.
//!
//! `readonly: true` binds the tree. `readonly: false` puts the tree behind an overlay of lower layers only, whose
//! superblock is read-only whatever a container runtime does with the mount's flags; the overlay is mounted
//! once a view and cloned for each further volume, so that pods share its page cache. What comes out of tars is an EROFS
//! image, read-only by nature, mounted and cloned in the same way; the view's other files lie over it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use stowage_store::{RecordState, View, VolumeRecord};
use stowage_sys::{Attached, MountError, Target, Unmounted};

use crate::Inner;
use crate::error::{ClearError, PublishError, store_error};
use crate::request::VolumeKey;

impl Inner {
    /// Mounts `view` for `record` and writes the record of it. The caller holds the target's and the view's lock.
    pub(crate) fn mount_recorded(&self, mut record: VolumeRecord, view: &View) -> Result<(), PublishError> {
        let key = VolumeKey { volume_id: record.volume_id.clone(), target: record.target.clone() };
        if let Err(error) = self.no_other_volume(&key) {
            // That volume came meanwhile and stays; of this one only the record is there.
            let removed = self.store.remove_record(&record.volume_id, &record.target);
            return removed.map_err(store_error("remove the volume's record")).and(Err(error));
        }
        // A mount without a matching record is from a crash between the mount and its record.
        self.unmount_at(&record.target).map_err(PublishError::from)?;
        record.view = Some(view.id.clone());
        self.store.put_record(&record).map_err(store_error("write the volume's record"))?;
        let target = self
            .target_root
            .prepare(&record.target)
            .map_err(|error| PublishError::Target(Arc::new(error)))?;
        let attached = self.attach(&record, view, &target).map_err(|source| PublishError::Mount {
            target: record.target.clone(),
            source: Arc::new(source),
        })?;
        record.state = RecordState::Mounted;
        record.dev_ino = Some((attached.dev, attached.ino));
        if let Err(error) = self.store.put_record(&record) {
            // Without a record the volume does not exist; better none than one that nobody knows of.
            if let Err(left) = self.clear_target(&record.target) {
                tracing::warn!(error = %left, "a mount without a record could not be taken down");
            }
            return Err(store_error("write the volume's record")(error));
        }
        // The time of last use; a failure costs only the order of collection.
        if let Err(error) = self.store.touch_view(&view.id) {
            tracing::warn!(view = %view.id, %error, "cannot note when the view was used");
        }
        Ok(())
    }

    fn attach(&self, record: &VolumeRecord, view: &View, target: &Target) -> Result<Attached, MountError> {
        if !self.has_superblock(record, view) {
            return self.mounter.bind_readonly(&view.tree)?.attach(target);
        }
        if let Some(live) = self.live_target(record, view) {
            match self.mounter.clone_of(&live) {
                Ok(clone) => return clone.attach(target),
                // It went away this moment; the view is mounted anew.
                Err(error) => {
                    tracing::debug!(live = %live.display(), %error, "a live mount could not be cloned");
                }
            }
        }
        let mount = match (&view.image, self.selinux_label) {
            (Some(image), _) => self.mount_image(view, image),
            (None, _) if !view.filesystems.is_empty() => self.mount_filesystems(view),
            (None, None) => self.mounter.overlay_readonly(&view.tree, &self.empty_dir),
            (None, Some(label)) => self.mounter.overlay_readonly_labelled(&view.tree, &self.empty_dir, label),
        };
        mount?.attach(target)
    }

    /// Whether the volume has a superblock of its own kind, which all volumes of the view share, and is no bind of the
    /// store's tree. Where SELinux is on every volume has: it carries the label that containers may read, so that
    /// nobody relabels the store's blobs.
    fn has_superblock(&self, record: &VolumeRecord, view: &View) -> bool {
        view.image.is_some()
            || !view.filesystems.is_empty()
            || !record.readonly
            || self.selinux_label.is_some()
    }

    /// A target at which the superblock of this view is mounted.
    fn live_target(&self, record: &VolumeRecord, view: &View) -> Option<PathBuf> {
        let records = self.store.records_of_view(&view.id).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the records; mounting the view anew");
            Vec::new()
        });
        records
            .into_iter()
            .filter(|other| self.has_superblock(other, view) && other.target != record.target)
            .filter(|other| other.state == RecordState::Mounted)
            .find(|other| is_healthy(other).unwrap_or(false))
            .map(|other| other.target)
    }

    /// Refuses a target at which another volume is mounted.
    pub(crate) fn no_other_volume(&self, key: &VolumeKey) -> Result<(), PublishError> {
        for other in self.store.records_at(&key.target).map_err(store_error("read the records"))? {
            if other.volume_id != key.volume_id && other.state == RecordState::Mounted && is_healthy(&other)?
            {
                return Err(PublishError::Conflict {
                    volume_id: other.volume_id,
                    target: other.target,
                    difference: format!("asked for volume {}", key.volume_id),
                });
            }
        }
        Ok(())
    }

    /// Unmounts everything at `target`; the directory stays. Whether anything was mounted.
    pub(crate) fn unmount_at(&self, target: &Path) -> Result<bool, ClearError> {
        match self.target_root.find(target)? {
            None => Ok(false),
            Some(found) => self.unmount_found(&found),
        }
    }

    /// Unmounts everything at `target` and removes the directory itself, never anything in it.
    pub(crate) fn clear_target(&self, target: &Path) -> Result<bool, ClearError> {
        let Some(found) = self.target_root.find(target)? else { return Ok(false) };
        let unmounted = self.unmount_found(&found)?;
        found.remove()?;
        Ok(unmounted)
    }

    fn unmount_found(&self, target: &Target) -> Result<bool, ClearError> {
        match target.unmount()? {
            Unmounted::NotMounted => Ok(false),
            Unmounted::Gone => Ok(true),
            Unmounted::Detached => {
                // Whoever had it open still reads it: its view counts as just used, which keeps it for a while.
                tracing::info!(target = %target.path().display(), "the volume was busy and was detached");
                self.keep_views_of(target.path());
                Ok(true)
            }
        }
    }

    fn keep_views_of(&self, target: &Path) {
        let records = self.store.records_at(target).unwrap_or_default();
        for view in records.into_iter().filter_map(|record| record.view) {
            if let Err(error) = self.store.touch_view(&view) {
                tracing::warn!(view, %error, "cannot note that the view is still in use");
            }
        }
    }
}

/// Whether the recorded mount is at its target: a mount root, the recorded file system object, read-only.
pub(crate) fn is_healthy(record: &VolumeRecord) -> Result<bool, PublishError> {
    let point =
        stowage_sys::inspect(&record.target).map_err(|error| PublishError::Inspect(Arc::new(error)))?;
    Ok(point.is_some_and(|point| point.readonly && Some((point.dev, point.ino)) == record.dev_ino))
}
