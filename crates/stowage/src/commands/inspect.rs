//! `stowage inspect`: the volume that a reference would become, with nothing fetched but the manifest.

use std::fmt::Write as _;

use stowage_artifact::{EXECUTABLE_MODE, Platform, TarLayer};
use stowage_volumes::{Resolved, human_bytes};

use crate::cli::InspectArgs;
use crate::tree::Tree;
use crate::{Failure, wiring};

/// Lines of the tree that are shown; `--json` has them all.
const TREE_LINES: usize = 200;

pub(crate) async fn run(args: InspectArgs) -> Result<(), Failure> {
    let attributes = wiring::attributes(&args.volume)?;
    let access = wiring::access(&args.registry, &attributes)?;
    let registry = wiring::registry(&args.registry, true)?;
    let resolved = stowage_volumes::inspect(&registry, &attributes, &access, &Platform::current()).await?;
    if args.json {
        json(&resolved);
    } else {
        human(&resolved);
    }
    Ok(())
}

fn human(resolved: &Resolved) {
    let layout = &resolved.plan.layout;
    say!("reference  {}", resolved.reference);
    say!("digest     {}", resolved.digest);
    if resolved.manifest_digest != resolved.digest {
        say!("manifest   {} (chosen from the index)", resolved.manifest_digest);
    }
    say!("family     {}", resolved.plan.family);
    say!(
        "volume     {} files, {} ({} to store)",
        layout.entries().len(),
        human_bytes(layout.apparent_bytes()),
        human_bytes(layout.total_bytes())
    );
    if !layout.is_exact() {
        say!("           more is known once the tars and compressed files are here");
    }
    let mut tree = Tree::default();
    for (path, entry) in layout.entries() {
        let executable = if entry.mode == EXECUTABLE_MODE { ", executable if it is a program" } else { "" };
        tree.add(path.as_str(), format!("{}  {}{executable}", human_bytes(entry.size), entry.source));
    }
    for line in tree.lines("  ", TREE_LINES) {
        say!("{line}");
    }
    for tar in layout.tars() {
        say!("{}", tar_line(tar));
    }
    for layer in layout.filesystems() {
        say!("mounts     {}, an image of {}, {}", layer.origin, layer.kind, human_bytes(layer.size));
    }
    for excluded in &resolved.plan.excluded {
        say!("excluded   {}  {}", excluded.path, human_bytes(excluded.size));
    }
    for note in &resolved.plan.notes {
        say!("note       {note}");
    }
}

/// One tar: what it is, where its members go, what happens where it is none.
fn tar_line(tar: &TarLayer) -> String {
    let mut line = format!("files of   {}, {}", tar.origin, human_bytes(tar.size));
    if let Some(codec) = tar.codec {
        let _ = write!(line, ", {codec}");
    }
    if let Some(at) = &tar.at {
        let _ = write!(line, ", in {at}");
    }
    if let Some(area) = &tar.within {
        let _ = write!(line, ", all in {area}");
    }
    if let Some(path) = &tar.fallback {
        let _ = write!(line, ", or the file {path} if it is no tar");
    }
    line
}

fn json(resolved: &Resolved) {
    let plan = &resolved.plan;
    let files: Vec<_> = plan
        .layout
        .entries()
        .iter()
        .map(|(path, entry)| {
            serde_json::json!({
                "path": path.as_str(),
                "bytes": entry.size,
                "mode": format!("{:04o}", entry.mode),
                "source": entry.source.to_string(),
            })
        })
        .collect();
    let excluded: Vec<_> = plan
        .excluded
        .iter()
        .map(|excluded| {
            serde_json::json!({
                "path": excluded.path,
                "bytes": excluded.size,
                "digest": excluded.digest.to_string(),
            })
        })
        .collect();
    let tars: Vec<_> = plan
        .layout
        .tars()
        .iter()
        .map(|tar| {
            serde_json::json!({
                "digest": tar.digest.to_string(),
                "bytes": tar.size,
                "codec": tar.codec,
                "at": tar.at,
                "within": tar.within,
                "fileIfNoTar": tar.fallback,
                "imageLayer": tar.whiteouts,
            })
        })
        .collect();
    let filesystems: Vec<_> = plan
        .layout
        .filesystems()
        .iter()
        .map(|layer| {
            serde_json::json!({
                "digest": layer.digest.to_string(),
                "bytes": layer.size,
                "kind": layer.kind,
            })
        })
        .collect();
    let object = serde_json::json!({
        "reference": resolved.reference.to_string(),
        "digest": resolved.digest.to_string(),
        "manifestDigest": resolved.manifest_digest.to_string(),
        "family": plan.family.to_string(),
        "bytes": plan.layout.apparent_bytes(),
        "storedBytes": plan.layout.total_bytes(),
        "exact": plan.layout.is_exact(),
        "files": files,
        "tars": tars,
        "filesystems": filesystems,
        "excluded": excluded,
        "notes": plan.notes,
    });
    say!("{object}");
}
