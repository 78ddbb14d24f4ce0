//! Artifacts by `podman artifact`.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use stowage_testkit::BlobData;
use stowage_testkit::tools::Tool;

use super::{MIB, PASSWORD, Shop, USER, shop};

/// `podman` with everything of its own below the home directory.
fn podman(shop: &Shop) -> Tool {
    // It leaves a lock and directories there, whatever it is told: here nobody but this test sees them.
    mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    std::fs::create_dir("/run/lock").unwrap();
    let at = |name: &str| shop.home.join("podman").join(name);
    std::fs::create_dir_all(at("")).unwrap();
    let podman = &shop.tools["podman"];
    std::fs::write(at("containers.conf"), configuration(podman.path())).unwrap();
    let (storage, run) = (at("storage"), at("run"));
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
        storage.display(),
        run.display()
    );
    std::fs::write(at("storage.conf"), storage).unwrap();
    podman
        .clone()
        .current_dir(&shop.home)
        .env("HOME", &shop.home)
        .env("CONTAINERS_CONF", at("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", at("storage.conf"))
        .env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
}

/// It runs no container, and wants to know by which programs it would.
fn configuration(podman: &Path) -> String {
    let program = std::fs::canonicalize(podman).unwrap();
    // As `cargo xtask tools` unpacks it, with what it depends on; or installed in the system.
    let unpacked: Option<PathBuf> = program.ancestors().nth(2).map(|folder| folder.join("unpacked/usr/bin"));
    let programs = unpacked.filter(|bin| bin.is_dir()).unwrap_or_else(|| PathBuf::from("/usr/bin"));
    let programs = programs.display();
    format!(
        "[engine]\nruntime = \"crun\"\nconmon_path = [\"{programs}/conmon\"]\ncgroup_manager = \"cgroupfs\"\n\
         events_logger = \"none\"\nlock_type = \"file\"\n[engine.runtimes]\ncrun = [\"{programs}/crun\"]\n"
    )
}

#[test]
fn files_added_to_an_artifact_by_podman_are_mounted_byte_for_byte() {
    shop(async |shop| {
        let (weights, text) = (BlobData::generated(51, 2 * MIB + 9), BlobData::from("# model\n"));
        shop.file("weights.gguf", &weights);
        shop.file("docs/README.md", &text);
        let reference = shop.registry.reference("team/podman", "v1");
        let podman = podman(shop);
        let podman = async |arguments: &[&str]| {
            let tmp = format!("--tmpdir={}", shop.home.join("podman/tmp").display());
            podman.run(&[&[tmp.as_str()], arguments].concat()).await.unwrap()
        };
        let kind = "--type=application/vnd.example.model";
        podman(&["artifact", "add", kind, &reference, "weights.gguf", "docs/README.md"]).await;
        let certs = format!("--cert-dir={}", shop.registry.cert_dir().unwrap().display());
        let account = format!("--creds={USER}:{PASSWORD}");
        podman(&["artifact", "push", "--quiet", &certs, &account, &reference]).await;
        shop.mounted(&reference, &[("weights.gguf", &weights), ("README.md", &text)]).await;
    });
}
