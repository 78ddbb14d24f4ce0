//! What is a tar in the registry and a tree in the volume. The kernel mounts it as EROFS.

use std::path::Path;

use stowage_testkit::BlobData;

use super::trees::{Content, Seed, Tree, plant, shown, tree, undated};
use super::{MIB, charts, kept, shop};

mod images;

#[test]
fn a_directory_pushed_by_oras_is_mounted_as_it_was() {
    shop(async |shop| {
        let (weights, large) = (BlobData::generated(31, 5 * MIB + 3), BlobData::generated(32, MIB + 1));
        let source = shop.home.join("source");
        plant(
            &source,
            &[
                ("data/run", Seed::File(0o700, "#!/bin/sh\necho run\n")),
                ("data/suid", Seed::File(0o4711, "#!/bin/sh\n")),
                ("data/private", Seed::File(0o600, "for the owner")),
                ("data/empty", Seed::File(0o644, "")),
                ("data/none", Seed::Directory(0o700)),
                ("data/deep/er/weights.bin", Seed::Data(0o640, &weights)),
                ("data/deep/latest", Seed::Symlink("er/weights.bin")),
                ("data/deep/er/up", Seed::Symlink("../../run")),
                ("data/deep/er/not-there", Seed::Symlink("nothing")),
                ("data/a name with spaces, and ümlauts", Seed::File(0o444, "x")),
                ("other/only", Seed::File(0o664, "in a second directory")),
                // Files beside them are not in a tar, and have the mode of every plain file.
                ("beside.bin", Seed::Data(0o444, &large)),
                ("config.json", Seed::File(0o444, "{}\n")),
            ],
        );
        let names = ["data", "other", "beside.bin", "config.json"];
        let reference = shop.oras_in(&source, "team/directory", &names).await;
        let manifest = shop.manifest(&reference).await;
        for (layer, name) in manifest["layers"].as_array().unwrap().iter().zip(names) {
            assert_eq!(layer["annotations"]["org.opencontainers.image.title"], name);
            let unpack = &layer["annotations"]["io.deis.oras.content.unpack"];
            assert_eq!(unpack == "true", source.join(name).is_dir(), "the client made no tar of {name}");
        }
        let (volume, _) = shop.publish(&reference).await;
        let (found, expected) = (tree(&volume.target), shown(tree(&source)));
        // The time of a plain file is nowhere in the artifact.
        let is_plain = |name: &str| names[2..].contains(&name);
        let dated =
            |tree: &Tree| -> Tree { tree.clone().into_iter().filter(|(name, _)| !is_plain(name)).collect() };
        assert_eq!(dated(&found), dated(&expected));
        assert_eq!(undated(found), undated(expected));
        read_only(&volume.target);
        shop.unpublish(&volume).await;
    });
}

#[test]
fn a_chart_pushed_by_helm_is_expanded_as_tar_would() {
    shop(async |shop| {
        let chart = charts::push(shop).await;
        let by_tar = shop.home.join("by-tar");
        std::fs::create_dir(&by_tar).unwrap();
        let package = chart.package.to_str().unwrap();
        shop.tools["tar"].clone().current_dir(&by_tar).run(&["-xzf", package]).await.unwrap();
        assert!(
            by_tar.join("anchor/charts/rope/Chart.yaml").exists()
                && !by_tar.join("anchor/left-out.bak").exists()
        );
        let volume = shop.publish_with(&chart.reference, &[("tar", "expand")]).await;
        // Directories are not in the package: their times are tar's own.
        assert_eq!(undated(tree(&volume.target)), undated(shown(tree(&by_tar))));
        read_only(&volume.target);
        shop.unpublish(&volume).await;
    });
}

#[test]
fn a_kit_packed_by_kit_is_the_directory_that_was_packed() {
    shop(async |shop| {
        for name in ["kit", "kit-gzip"] {
            let (volume, _) = shop.publish(&kept::push(shop, name).await).await;
            assert_eq!(tree(&volume.target), kept::kit(shop), "{name}");
            read_only(&volume.target);
            shop.unpublish(&volume).await;
        }
    });
}

#[test]
fn a_model_packed_as_tars_by_modctl_is_the_files_that_were_named() {
    shop(async |shop| {
        let (volume, _) = shop.publish(&kept::push(shop, "model-tar").await).await;
        let (mut found, mut expected) = (tree(&volume.target), kept::model(shop));
        // No tar has the directories of its file.
        for entry in found.values_mut().chain(expected.values_mut()) {
            if entry.content == Content::Directory {
                entry.modified = 0;
            }
        }
        assert_eq!(found, expected);
        read_only(&volume.target);
        shop.unpublish(&volume).await;
    });
}

fn read_only(volume: &Path) {
    let error = std::fs::write(volume.join("new"), "x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
}
