//! The registry with the tars, and plugins over one store.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde_json::json;
use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::artifacts::{ArtifactBuilder, OCI_MANIFEST, Tar};
use stowage_testkit::kubelet::PublishRequest;
use stowage_testkit::{BlobData, Layer, Registry};

use crate::bench::Bench;
use crate::disk;
use crate::image::REPOSITORY;
use crate::node::{self, Node};
use crate::tarball::Members;

/// What the plugin is called: its store and its directories.
const NAME: &str = "tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const SMALL: &str = "small";

/// The registry, and a store whose plugin comes and goes.
pub(super) struct Stage<'a> {
    pub(super) bench: &'a Bench,
    registry: Registry,
}

/// A container image of one tar.
pub(super) struct Pushed {
    pub(super) reference: String,
    pub(super) members: Members,
    /// The tar.
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Where the registry has it.
    pub(super) path: PathBuf,
}

impl<'a> Stage<'a> {
    /// A registry with one small image, and an empty store.
    pub(super) fn set(bench: &'a Bench) -> Result<Self> {
        let registry = Registry::builder().start_blocking().context("cannot start testkit's registry")?;
        disk::fresh(&bench.dir("tars"))?;
        let stage = Self { bench, registry };
        disk::fresh(&stage.store())?;
        let path = bench.dir("tars").join(SMALL);
        fs::write(&path, Tar::of([("file", "content")]).bytes()).context("cannot write a tar")?;
        stage.push_file(SMALL, &path)?;
        Ok(stage)
    }

    /// An image of a tar with one file.
    pub(super) fn small(&self) -> String {
        self.registry.reference(REPOSITORY, SMALL)
    }

    /// Makes a tar and an image of it.
    pub(super) fn push(&self, name: &str, members: Members) -> Result<Pushed> {
        self.bench.say(format!("making a tar of {} files", members.files));
        let path = self.bench.dir("tars").join(name);
        members.write(&path, 5)?;
        let (digest, size) = self.push_file(name, &path)?;
        Ok(Pushed { reference: self.registry.reference(REPOSITORY, name), members, digest, size, path })
    }

    fn push_file(&self, tag: &str, path: &std::path::Path) -> Result<(Digest, u64)> {
        let data = BlobData::file(path)?;
        let (digest, size) = (data.digest(Algorithm::Sha256)?, data.size());
        let layer = Layer::new(LAYER, data).declare_digest(digest.clone());
        let artifact = ArtifactBuilder::new().config(CONFIG, config(&digest)).layer(layer).build()?;
        self.registry.push(REPOSITORY, Some(tag), &artifact);
        Ok((digest, size))
    }

    /// Why this machine shows no members of tars; nothing where it does.
    pub(super) async fn why_no_volumes(&self) -> Result<Option<String>> {
        let node = self.node().await?;
        let request = node.request(&self.small(), false)?;
        let why = match node::publish(&mut node.plugin().node(), &request).await {
            Ok(_) => {
                node.unpublish(&request).await?;
                None
            }
            Err(status) if status.code() == tonic::Code::FailedPrecondition => {
                Some(status.message().to_owned())
            }
            Err(status) => bail!("publishing a small tar failed: {status}"),
        };
        self.end(node)?;
        Ok(why)
    }

    /// A plugin over the store as it is.
    pub(super) async fn node(&self) -> Result<Node> {
        Node::again(self.bench, NAME, &self.registry.host(), None).await
    }

    /// A plugin that has published a small tar before, as one that runs for a while has.
    pub(super) async fn used_node(&self) -> Result<Node> {
        let node = self.node().await?;
        let request = node.request(&self.small(), false)?;
        node.publish(&request).await?;
        node.unpublish(&request).await?;
        Ok(node)
    }

    /// Ends a plugin without volumes.
    pub(super) fn end(&self, node: Node) -> Result<()> {
        node.stop()?;
        disk::remove(&self.bench.short_dir(NAME))
    }

    /// Brings a tar into the store, and nothing that is made of it.
    pub(super) async fn bring(&self, pushed: &Pushed) -> Result<()> {
        let node = self.node().await?;
        let attributes = [("reference", pushed.reference.as_str()), ("tar", "file")];
        let request = node.request_with(&attributes, false)?;
        node.publish(&request).await?;
        node.unpublish(&request).await?;
        self.end(node)?;
        self.forget_views()
    }

    /// Removes all that was made of tars, while no plugin has the store.
    pub(super) fn forget_views(&self) -> Result<()> {
        for view in self.views()? {
            disk::remove(&view)?;
        }
        Ok(())
    }

    /// The directories of the views.
    pub(super) fn views(&self) -> Result<Vec<PathBuf>> {
        let directory = self.store().join("views");
        if !directory.exists() {
            return Ok(Vec::new());
        }
        let entries = fs::read_dir(&directory).context("cannot list the views")?;
        entries.map(|entry| Ok(entry.context("cannot list the views")?.path())).collect()
    }

    pub(super) fn store(&self) -> PathBuf {
        self.bench.dir(&format!("store-{NAME}"))
    }

    /// Where the store has the tar.
    pub(super) fn blob(&self, pushed: &Pushed) -> PathBuf {
        let hex = pushed.digest.hex();
        self.store().join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// The tar as an OCI layout, without a second copy of its bytes.
    pub(super) fn oci_layout(&self, pushed: &Pushed) -> Result<PathBuf> {
        let layout = self.bench.dir("layout");
        let blobs = layout.join("blobs/sha256");
        disk::fresh(&blobs)?;
        fs::hard_link(&pushed.path, blobs.join(pushed.digest.hex())).context("cannot link the tar")?;
        let put = |media_type: &str, bytes: &[u8]| -> Result<serde_json::Value> {
            let digest = Digest::of(Algorithm::Sha256, bytes);
            fs::write(blobs.join(digest.hex()), bytes).context("cannot write a blob of the layout")?;
            Ok(json!({ "mediaType": media_type, "digest": digest.as_str(), "size": bytes.len() }))
        };
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": put(CONFIG, config(&pushed.digest).as_bytes())?,
            "layers": [{ "mediaType": LAYER, "digest": pushed.digest.as_str(), "size": pushed.size }],
        });
        let mut entry = put(OCI_MANIFEST, manifest.to_string().as_bytes())?;
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    /// Ends it all.
    pub(super) fn strike(self, all: Vec<Pushed>) -> Result<()> {
        for pushed in all {
            pushed.remove()?;
        }
        disk::remove(&self.bench.dir("tars"))?;
        disk::remove(&self.store())
    }
}

impl Pushed {
    /// Removes a tar that is not needed any more.
    pub(super) fn remove(self) -> Result<()> {
        fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// The config of an image of one tar, which umoci compares.
fn config(diff_id: &Digest) -> String {
    json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [diff_id.as_str()] },
        "history": [{ "created_by": "stowage-bench" }],
    })
    .to_string()
}

/// The volume shows the last file of the tar as long as it is.
pub(super) fn check(request: &PublishRequest, members: Members) -> Result<()> {
    let path = request.target.join(Members::path(members.files - 1));
    let found = fs::metadata(&path).with_context(|| format!("cannot find {}", path.display()))?.size();
    if found != members.bytes {
        bail!("{} has {found} bytes, and {} in the tar", path.display(), members.bytes);
    }
    Ok(())
}
