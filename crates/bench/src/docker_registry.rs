//! A real registry for everybody alike: Debian's `docker-registry`, plain http on loopback, over a directory that is
//! filled by hand. Nothing is pushed over the wire, so that twenty gibibytes of holes cost neither time nor disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;
use stowage_artifact::{Algorithm, Digest};
use stowage_testkit::tools::Tool;

use crate::image::{File, Image, REPOSITORY};
use crate::proc_status::processor_seconds;
use crate::process::last_words;

/// How long it may take until it listens.
const START: Duration = Duration::from_secs(20);

/// A running registry; dropping it kills it. Its directory stays.
pub(crate) struct DockerRegistry {
    storage: Storage,
    host: String,
    child: Child,
}

impl DockerRegistry {
    /// Starts one over an empty directory.
    pub(crate) fn start(home: &Path) -> Result<Self> {
        let binary = Tool::find("docker-registry")?;
        crate::disk::fresh(home)?;
        let (config, log) = (home.join("config.yml"), home.join("log"));
        fs::write(&config, configuration(home).to_string())?;
        let output = fs::File::create(&log)?;
        let mut child = Command::new(binary.path())
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context("cannot start docker-registry")?;
        match listening(&mut child, &log) {
            Ok(host) => {
                Ok(Self { storage: Storage { root: home.join("storage/docker/registry/v2") }, host, child })
            }
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// `address:port`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Processor seconds that it has taken so far.
    pub(crate) fn cpu(&self) -> f64 {
        processor_seconds(self.child.id()).map_or(0.0, |(user, system)| user + system)
    }

    /// Moves files in as blobs and names them by both manifests.
    pub(crate) fn publish(&self, files: Vec<(File, PathBuf)>) -> Result<Image> {
        for (file, path) in &files {
            let blob = self.storage.blob(&file.digest)?;
            fs::rename(path, &blob).with_context(|| format!("cannot move a blob to {}", blob.display()))?;
        }
        let image = Image::new(&self.host, files.into_iter().map(|(file, _)| file).collect());
        for manifest in image.manifests() {
            self.storage.put(&manifest.config)?;
            self.storage.tag(manifest.tag, &self.storage.put(&manifest.bytes)?)?;
        }
        Ok(image)
    }

    /// Where the bytes of a blob are.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.storage.data(digest)
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // Ended by itself already: that is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory of the `filesystem` driver.
struct Storage {
    root: PathBuf,
}

impl Storage {
    fn data(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// The place of a blob of the repository; the blob itself is still to come.
    fn blob(&self, digest: &Digest) -> Result<PathBuf> {
        let data = self.data(digest);
        if let Some(parent) = data.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        }
        self.link(&format!("_layers/sha256/{}", digest.hex()), digest)?;
        Ok(data)
    }

    fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let data = self.blob(&digest)?;
        fs::write(&data, bytes).with_context(|| format!("cannot write {}", data.display()))?;
        Ok(digest)
    }

    fn tag(&self, tag: &str, manifest: &Digest) -> Result<()> {
        let hex = manifest.hex();
        self.link(&format!("_manifests/revisions/sha256/{hex}"), manifest)?;
        self.link(&format!("_manifests/tags/{tag}/index/sha256/{hex}"), manifest)?;
        self.link(&format!("_manifests/tags/{tag}/current"), manifest)
    }

    fn link(&self, directory: &str, digest: &Digest) -> Result<()> {
        let directory = self.root.join("repositories").join(REPOSITORY).join(directory);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let link = directory.join("link");
        fs::write(&link, digest.as_str()).with_context(|| format!("cannot write {}", link.display()))
    }
}

/// The configuration, as JSON, which is YAML.
fn configuration(home: &Path) -> serde_json::Value {
    json!({
        "version": 0.1,
        "log": { "level": "info", "formatter": "text", "accesslog": { "disabled": true } },
        "storage": { "filesystem": { "rootdirectory": home.join("storage") } },
        // The port is chosen by the kernel and read from the log.
        "http": { "addr": "127.0.0.1:0", "secret": "stowage" },
    })
}

/// Waits until the log says where it listens.
fn listening(child: &mut Child, log: &Path) -> Result<String> {
    let started = Instant::now();
    loop {
        let said = fs::read_to_string(log).unwrap_or_default();
        if let Some(address) = address_in(&said) {
            return Ok(address);
        }
        if let Some(status) = child.try_wait().context("cannot wait for docker-registry")? {
            bail!("docker-registry ended with {status}: {}", last_words(log));
        }
        if started.elapsed() > START {
            bail!("docker-registry does not listen after {START:?}: {}", last_words(log));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The address in a line that is written to its end.
fn address_in(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let (line, _) = rest.split_once('\n')?;
    let end = line.find([',', '"', ' ']).unwrap_or(line.len());
    Some(line[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_from_a_whole_line_only() {
        let line = "level=info msg=\"listening on 127.0.0.1:5000\" go.version=go1.19";
        assert_eq!(address_in(&format!("first\n{line}\n")).as_deref(), Some("127.0.0.1:5000"));
        assert_eq!(address_in(line), None);
    }

    #[test]
    fn blobs_lie_where_the_filesystem_driver_looks() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Storage { root: directory.path().to_owned() };
        let digest = storage.put(b"{}").unwrap();
        storage.tag("v1", &digest).unwrap();
        let hex = digest.hex();
        let data = directory.path().join(format!("blobs/sha256/{}/{hex}/data", &hex[..2]));
        assert_eq!(fs::read(data).unwrap(), b"{}");
        for link in [
            format!("_layers/sha256/{hex}/link"),
            format!("_manifests/revisions/sha256/{hex}/link"),
            "_manifests/tags/v1/current/link".to_owned(),
        ] {
            let link = directory.path().join("repositories").join(REPOSITORY).join(link);
            assert_eq!(fs::read_to_string(link).unwrap(), digest.as_str());
        }
    }
}
