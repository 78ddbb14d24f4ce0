//! The volume of a pod that an event is about.

use std::collections::HashMap;
use std::path::{Component, Path};

use stowage_csi_proto::csi::v1::NodePublishVolumeRequest;

use crate::context;

/// Where kubelet has the CSI volumes of a pod: `…/pods/<uid>/volumes/kubernetes.io~csi/<name>/mount`.
const DIRECTORIES: [&str; 3] = ["pods", "volumes", "kubernetes.io~csi"];

/// A volume's place: the pod's uid, and the name that the volume has there.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Place {
    pub(super) pod_uid: String,
    pub(super) volume: String,
}

impl Place {
    /// The place that a target path names; `None` for a path that is not kubelet's.
    pub(crate) fn of(target: &Path) -> Option<Self> {
        let mut names = target.components().rev().map(|part| match part {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
        });
        let mut next = || names.next().flatten();
        if next()? != "mount" {
            return None;
        }
        let (volume, plugin, volumes, pod_uid, pods) = (next()?, next()?, next()?, next()?, next()?);
        ([pods, volumes, plugin] == DIRECTORIES)
            .then(|| Self { pod_uid: pod_uid.to_owned(), volume: volume.to_owned() })
    }
}

/// A pod and its volume. There is one only where the path that kubelet made and the pod that it names agree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Subject {
    pub(super) place: Place,
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Whether the volume is written in the pod, so that its name there is known. A persistent volume stands under its
    /// name in the cluster.
    pub(super) inline: bool,
}

impl Subject {
    /// Who is to hear of this publish; `None` where kubelet sends no pod information, or that of another pod.
    pub(crate) fn of(request: &NodePublishVolumeRequest) -> Option<Self> {
        Self::new(&request.volume_context, Path::new(&request.target_path))
    }

    fn new(context: &HashMap<String, String>, target: &Path) -> Option<Self> {
        let pod = context::pod(context);
        let place = Place::of(target)?;
        let known = !pod.name.is_empty() && !pod.namespace.is_empty() && pod.uid == place.pod_uid;
        known.then_some(Self { place, namespace: pod.namespace, pod: pod.name, inline: pod.ephemeral })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "/var/lib/kubelet/pods/u-1/volumes/kubernetes.io~csi/model/mount";

    fn context(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), (*value).to_owned())).collect()
    }

    fn subject(pairs: &[(&str, &str)], target: &str) -> Option<Subject> {
        Subject::new(&context(pairs), Path::new(target))
    }

    #[test]
    fn an_inline_and_a_persistent_volume_are_known_by_their_path() {
        let pod = [("pod.name", "web-0"), ("pod.namespace", "team"), ("pod.uid", "u-1")];
        for (ephemeral, inline) in [("true", true), ("false", false)] {
            let found = subject(&[&pod[..], &[("ephemeral", ephemeral)]].concat(), TARGET).unwrap();
            assert_eq!(found.place, Place { pod_uid: "u-1".to_owned(), volume: "model".to_owned() });
            assert_eq!((found.namespace.as_str(), found.pod.as_str()), ("team", "web-0"));
            assert_eq!(found.inline, inline);
        }
        assert!(!subject(&pod, TARGET).unwrap().inline);
    }

    #[test]
    fn without_pod_information_or_with_another_pods_nobody_is_told() {
        for pairs in [
            &[][..],
            &[("pod.name", "web-0"), ("pod.namespace", "team")],
            &[("pod.name", "web-0"), ("pod.namespace", "team"), ("pod.uid", "u-2")],
            &[("pod.name", ""), ("pod.namespace", "team"), ("pod.uid", "u-1")],
            &[("pod.name", "web-0"), ("pod.uid", "u-1")],
        ] {
            assert_eq!(subject(pairs, TARGET), None, "{pairs:?}");
        }
    }

    #[test]
    fn only_kubelets_paths_are_places() {
        for target in [
            "/k/pods/u-1/volumes/kubernetes.io~csi/model",
            "/k/pods/u-1/volumes/kubernetes.io~nfs/model/mount",
            "/k/pods/u-1/volumes/x/kubernetes.io~csi/model/mount",
            "/k/u-1/volumes/kubernetes.io~csi/model/mount",
            "/k/pods/../volumes/kubernetes.io~csi/model/mount",
            "/mount",
            "",
        ] {
            assert_eq!(Place::of(Path::new(target)), None, "{target}");
        }
        assert!(Place::of(Path::new(&format!("{TARGET}/"))).is_some());
    }
}
