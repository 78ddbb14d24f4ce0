//! What tools pushed that cannot be installed here: the Go module proxy does not have their modules. `kept` has it as
//! `oras copy --to-oci-layout` read it back, each layout in a tar.
//!
//! - `kit.tar.gz`, `kit-gzip.tar.gz`: `kit pack`, the second with `--compression gzip`, and `kit push`, from
//!   kitops-ml/kitops at a041892, with this Kitfile:
//!   ```yaml
//!   manifestVersion: 1.0.0
//!   package: {name: anchor, version: 1.0.0, authors: [ada]}
//!   model: {name: anchor, path: model/w.gguf, parts: [{path: ./model/parts}]}
//!   code: [{path: src, description: code}]
//!   datasets: [{name: train, path: data/}]
//!   docs: [{path: docs/README.md}, {path: LICENSE}]
//!   ```
//! - `model.tar.gz`, `model-tar.tar.gz`: `modctl build --no-creation-time`, the second with `--raw=false`, and `modctl push`,
//!   from modelpack/modctl at c8e484d, of all files below, named in a Modelfile.

use super::trees::{Content, Seed, Tree, plant, shown, tree};
use super::{Shop, shop};

/// What was packed into the kits.
const KIT: [(&str, Seed<'_>); 7] = [
    ("model/w.gguf", Seed::File(0o644, "GGUF weights\n")),
    ("model/parts/deep/part.bin", Seed::File(0o644, "a part\n")),
    ("src/run.sh", Seed::File(0o755, "#!/bin/sh\necho run\n")),
    ("data/train.csv", Seed::File(0o600, "a,b\n1,2\n")),
    ("data/empty", Seed::File(0o644, "")),
    ("docs/README.md", Seed::File(0o644, "# doc\n")),
    ("LICENSE", Seed::File(0o644, "MIT\n")),
];

/// What was packed into the models.
const MODEL: [(&str, Seed<'_>); 6] = [
    ("config.json", Seed::File(0o644, "{}\n")),
    ("weights/a.safetensors", Seed::File(0o644, "weights one\n")),
    ("weights/deep/b.safetensors", Seed::File(0o644, "weights two\n")),
    ("src/a.py", Seed::File(0o644, "import x\n")),
    ("src/run.sh", Seed::File(0o755, "#!/bin/sh\n")),
    ("docs/README.md", Seed::File(0o600, "# doc\n")),
];

/// Pushes what was kept.
pub(super) async fn push(shop: &Shop, name: &str) -> String {
    let kept = format!("{}/tests/it/interop/kept/{name}.tar.gz", env!("CARGO_MANIFEST_DIR"));
    let layout = shop.home.join(name);
    std::fs::create_dir(&layout).unwrap();
    shop.tools["tar"].clone().current_dir(&layout).run(&["-xzf", kept.as_str()]).await.unwrap();
    let reference = shop.registry.reference(&format!("kept/{name}"), "v1");
    shop.crane().run(&["push", layout.to_str().unwrap(), &reference]).await.unwrap();
    reference
}

/// What a volume of the kit shows: `kit` keeps who packed it and dates nothing.
pub(super) fn kit(shop: &Shop) -> Tree {
    let mut tree = planted(shop, "kit", &KIT);
    for entry in tree.values_mut() {
        entry.owner = (1000, 0);
        entry.modified = 0;
    }
    tree
}

/// What a volume of the model shows.
pub(super) fn model(shop: &Shop) -> Tree {
    planted(shop, "model", &MODEL)
}

fn planted(shop: &Shop, name: &str, seeds: &[(&str, Seed<'_>)]) -> Tree {
    let source = shop.home.join("source").join(name);
    plant(&source, seeds);
    shown(tree(&source))
}

#[test]
fn a_model_built_by_modctl_is_the_files_that_were_named() {
    shop(async |shop| {
        let reference = push(shop, "model").await;
        let (volume, _) = shop.publish(&reference).await;
        let mut expected = model(shop);
        let mut found = tree(&volume.target);
        for tree in [&mut expected, &mut found] {
            tree.retain(|_, entry| entry.content != Content::Directory);
            for entry in tree.values_mut() {
                // Plain files are the store's own; nobody may write to them.
                (entry.modified, entry.mode) = (0, entry.mode & !0o200);
            }
        }
        assert!(found.values().all(|entry| entry.mode & 0o222 == 0), "{found:?}");
        assert_eq!(found, expected);
        shop.unpublish(&volume).await;
    });
}
