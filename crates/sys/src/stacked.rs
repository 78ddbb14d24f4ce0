//! Mounts stacked by one read-only overlay: layers that are filesystem images, and a tree of plain files over them.

use std::path::Path;

use crate::detached::{Detached, Form, MountError, Mounter};
use crate::overlay::{Layers, Naming, count_is_possible, open_layer};
use crate::staging::Staged;

impl Mounter {
    /// Mounts over one another, the lowest first, and a directory over them all, behind an overlay without an upper layer.
    ///
    /// What is in several shows as it is in the topmost; directories show the entries of all, less those that whiteouts and
    /// opaque directories of overlayfs hide. One layer without a tree is that layer itself, with the label it has; else every
    /// file carries `label`, and the layers need none of their own. They become parts of the overlay and stay as long as it
    /// does. No two may be clones of one mount: a layer that comes twice is mounted twice.
    ///
    /// An overlay is one level of stacking, as is an EROFS mount through files; the kernel allows two. Kernels before 6.15 take
    /// no detached mount as a layer: there all of them stand in the staging directory for a moment.
    pub fn stacked_readonly(
        &self,
        layers: Vec<Detached>,
        tree: Option<&Path>,
        label: Option<&str>,
    ) -> Result<Detached, MountError> {
        self.stacked(layers, tree, label, Naming::of_this_kernel())
    }

    pub(crate) fn stacked(
        &self,
        mut layers: Vec<Detached>,
        tree: Option<&Path>,
        label: Option<&str>,
        naming: Naming,
    ) -> Result<Detached, MountError> {
        if tree.is_none()
            && layers.len() == 1
            && let Some(only) = layers.pop()
        {
            return Ok(only);
        }
        let top = tree.or(layers.last().map(Detached::source)).unwrap_or(Path::new("")).to_owned();
        let count = layers.len() + usize::from(tree.is_some());
        if !count_is_possible(count) {
            return Err(MountError::LayerCount { layers: count, path: top });
        }
        let mut roots = Vec::with_capacity(count);
        if let Some(tree) = tree {
            roots.push(open_layer(tree)?);
        }
        // They stay until the overlay has its own hold of what is mounted there.
        let mut staged = Vec::new();
        for layer in layers.into_iter().rev() {
            let standing = match layer.into_form() {
                Form::Tree(root) if naming >= Naming::Detached => {
                    roots.push(root);
                    continue;
                }
                Form::Tree(root) => Staged::detached(&self.staging, root)?,
                Form::Staged(standing) => standing,
            };
            roots.push(open_layer(standing.path())?);
            staged.push(standing);
        }
        self.overlay_named(&Layers::stacked(&top, roots, label), naming)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::detached::MountApi;
    use crate::target::TargetRoot;

    /// Every way to name the layers, also those that only older kernels take: they must work on this one too.
    const WAYS: [(MountApi, Naming); 4] = [
        (MountApi::Auto, Naming::Detached),
        (MountApi::Auto, Naming::OneByOne),
        (MountApi::Auto, Naming::Joined),
        (MountApi::Legacy, Naming::Joined),
    ];

    /// So many layers below a tree, each with a file of its own and one that all have, stacked in every way.
    fn stack(layers: usize, body: impl Fn(&Path, Result<Detached, MountError>) + Sync) {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        let numbers: Vec<String> = (0..layers).map(|number| number.to_string()).collect();
        for name in numbers.iter().map(String::as_str).chain(["tree"]) {
            fs::create_dir_all(at(name).join("both")).unwrap();
            fs::write(at(name).join("both").join(name), name).unwrap();
            fs::write(at(name).join("same"), name).unwrap();
        }
        fs::create_dir(at("pods")).unwrap();
        for (api, naming) in WAYS {
            stowage_testkit::namespace::private_mounts(|| {
                let mounter = Mounter::new(api, &at("staging"));
                let mounts = numbers.iter().map(|name| mounter.bind_readonly(&at(name)).unwrap()).collect();
                body(base.path(), mounter.stacked(mounts, Some(&at("tree")), None, naming));
                assert_eq!(fs::read_dir(at("staging")).map_or(0, Iterator::count), 0, "{api:?} {naming:?}");
                assert_eq!(crate::mounts_beneath(base.path()).unwrap().len(), 0, "{api:?} {naming:?}");
            });
        }
    }

    #[test]
    fn every_way_to_name_the_layers_gives_the_same_and_leaves_nothing_staged() {
        // The names of 40 do not fit in one value of fsconfig(2).
        for layers in [1, 2, 40] {
            stack(layers, |base, stacked| {
                let target = TargetRoot::open(base).unwrap().prepare(&base.join("pods/volume")).unwrap();
                let attached = stacked.unwrap().attach(&target).unwrap();
                assert!(attached.superblock_readonly);
                let read = |name: &str| fs::read_to_string(target.path().join(name)).unwrap();
                assert_eq!([read("same"), read("both/tree"), read("both/0")], ["tree", "tree", "0"]);
                assert_eq!(fs::read_dir(target.path().join("both")).unwrap().count(), layers + 1);
                assert_eq!(crate::mounts_beneath(base).unwrap().len(), 1);
                target.unmount().unwrap();
            });
        }
    }

    #[test]
    fn more_layers_than_the_kernel_takes_are_refused_and_never_cut_off() {
        stack(300, |base, stacked| match stacked {
            Ok(stacked) => {
                let target = TargetRoot::open(base).unwrap().prepare(&base.join("pods/volume")).unwrap();
                stacked.attach(&target).unwrap();
                assert_eq!(fs::read_dir(target.path().join("both")).unwrap().count(), 301);
                target.unmount().unwrap();
            }
            Err(MountError::LayerCount { layers: 301, path }) => assert_eq!(path, base.join("tree")),
            Err(other) => panic!("{other:?}"),
        });
    }

    #[test]
    fn an_overlay_has_two_layers_at_least_and_500_at_most() {
        let base = tempfile::tempdir().unwrap();
        let mounter = Mounter::new(MountApi::Auto, &base.path().join("staging"));
        let nothing = mounter.stacked_readonly(vec![], None, None).unwrap_err();
        assert!(matches!(nothing, MountError::LayerCount { layers: 0, .. }), "{nothing:?}");
        let alone = mounter.stacked_readonly(vec![], Some(base.path()), None).unwrap_err();
        assert!(matches!(alone, MountError::LayerCount { layers: 1, .. }), "{alone:?}");
        let many = (0..500).map(|_| mounter.bind_readonly(base.path()).unwrap()).collect();
        let many = mounter.stacked_readonly(many, Some(base.path()), None).unwrap_err();
        assert!(matches!(many, MountError::LayerCount { layers: 501, .. }), "{many:?}");
    }
}
