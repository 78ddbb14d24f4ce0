//! `stowage pull`: an artifact into the store, from a registry or from an OCI layout directory.

use stowage_volumes::{Progress, PullRequest, human_bytes};

use crate::cli::{PullArgs, StoreArgs, TarArgs};
use crate::{Failure, progress, wiring};

pub(crate) async fn run(store: &StoreArgs, args: PullArgs) -> Result<(), Failure> {
    let registry = wiring::registry(&args.registry, true)?;
    let progress = Progress::default();
    let layout = args.volume.reference.strip_prefix("oci:").map(std::path::PathBuf::from);
    let mut volume = args.volume;
    if layout.is_some() {
        volume.reference = args.name.ok_or_else(|| {
            wiring::configuration(anyhow::anyhow!(
                "an OCI layout has no registry of its own; say with --as REF under which reference pods will ask for it"
            ))
        })?;
    }
    let attributes = wiring::attributes(&volume)?;
    let access = wiring::access(&args.registry, &attributes)?;
    let name = attributes.reference.to_string();
    let store = wiring::open_store(store)?;
    let volumes = wiring::volumes(store, registry, args.downloads.options(), TarArgs::default()).await?;
    let request = PullRequest { attributes, namespace: String::new(), access, progress: progress.clone() };
    let work = async {
        match &layout {
            None => volumes.pull(request).await,
            Some(directory) => volumes.pull_layout(directory, request).await,
        }
    };
    let result = tokio::select! {
        result = progress::shown(&name, progress, work) => result.map_err(Failure::from),
        _ = tokio::signal::ctrl_c() => Err(wiring::interrupted()),
    };
    volumes.shutdown().await;
    let pulled = result?;
    if args.json {
        let object = serde_json::json!({
            "reference": name,
            "digest": pulled.digest.to_string(),
            "fetchedBytes": pulled.fetched,
            "cachedBytes": pulled.cached,
            "files": pulled.files,
        });
        say!("{object}");
    } else {
        say!(
            "{name} ({}) is in the store: {} files, {} fetched, {} there before",
            pulled.digest,
            pulled.files,
            human_bytes(pulled.fetched),
            human_bytes(pulled.cached)
        );
    }
    Ok(())
}
