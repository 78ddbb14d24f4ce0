//! From a `NodePublishVolumeRequest` to a parsed request, or to the reason why it can never work.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use stowage_artifact::{AttributeError, VolumeAttributes};
use stowage_csi_plugin::{CapabilityError, check_capability};
use stowage_csi_proto::csi::v1::{NodePublishVolumeRequest, VolumeCapability};
use stowage_volumes::{Access, Progress, PublishRequest};
use tonic::{Code, Status};

use crate::context::{self, Context, Pod};
use crate::credentials::{Question, UsedAnswer};

/// Why a request is refused before anything is looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("the request has no {0}; kubelet always sends one")]
    Missing(&'static str),
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    #[error("target path {0} is not an absolute path without `..`")]
    TargetPath(PathBuf),
    #[error("target path {0} is not in the directory of the pod {1} that the volume is for")]
    ForeignPod(PathBuf, String),
    #[error(transparent)]
    Attributes(#[from] AttributeError),
}

impl From<ArgumentError> for Status {
    fn from(error: ArgumentError) -> Self {
        let code = match error {
            ArgumentError::Capability(CapabilityError::Writers(_)) => Code::FailedPrecondition,
            ArgumentError::Missing(_)
            | ArgumentError::Capability(
                CapabilityError::Missing(_)
                | CapabilityError::Block
                | CapabilityError::MountFlag(_)
                | CapabilityError::FsType(_),
            )
            | ArgumentError::TargetPath(_)
            | ArgumentError::ForeignPod(..)
            | ArgumentError::Attributes(_) => Code::InvalidArgument,
        };
        Self::new(code, error.to_string())
    }
}

/// What a publish call asks for, without access yet, and what that is to be looked for with.
pub(crate) fn publish(
    request: NodePublishVolumeRequest,
    wait: Duration,
) -> Result<(PublishRequest, Question), ArgumentError> {
    let volume_id = volume_id(request.volume_id)?;
    let target = target_path(request.target_path)?;
    let capability = capability(request.volume_capability.as_ref())?;
    let Context { pod, tokens, attributes } = context::split(request.volume_context);
    own_pod(&pod, &target)?;
    let asked = PublishRequest {
        volume_id,
        target,
        readonly: request.readonly,
        capability,
        attributes: VolumeAttributes::parse(&attributes)?,
        namespace: pod.namespace.clone(),
        access: Access::of(None),
        wait,
        progress: Progress::default(),
    };
    let used = UsedAnswer::default();
    Ok((asked, Question { secrets: request.secrets, pod, context_tokens: tokens, used }))
}

pub(crate) fn volume_id(id: String) -> Result<String, ArgumentError> {
    if id.is_empty() { Err(ArgumentError::Missing("volume_id")) } else { Ok(id) }
}

/// Where a volume is asked about; any path that is not its target is simply not found.
pub(crate) fn volume_path(path: String) -> Result<PathBuf, ArgumentError> {
    if path.is_empty() { Err(ArgumentError::Missing("volume_path")) } else { Ok(PathBuf::from(path)) }
}

pub(crate) fn target_path(path: String) -> Result<PathBuf, ArgumentError> {
    if path.is_empty() {
        return Err(ArgumentError::Missing("target_path"));
    }
    let path = PathBuf::from(path);
    let plain = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    if plain { Ok(path) } else { Err(ArgumentError::TargetPath(path)) }
}

/// Checks the capability; its words go into the record, so that another one at the same target is a conflict.
fn capability(capability: Option<&VolumeCapability>) -> Result<String, ArgumentError> {
    let capability = capability.ok_or(ArgumentError::Missing("volume_capability"))?;
    let mode = check_capability(capability)?;
    Ok(format!("mount/{}", mode.as_str_name()))
}

/// An inline volume belongs to one pod, whose uid is in the target path that kubelet makes.
fn own_pod(pod: &Pod, target: &Path) -> Result<(), ArgumentError> {
    let inside = target.components().any(|part| part.as_os_str() == pod.uid.as_str());
    if pod.ephemeral && !inside {
        return Err(ArgumentError::ForeignPod(target.to_owned(), pod.uid.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stowage_csi_proto::csi::v1::volume_capability::access_mode::Mode;
    use stowage_csi_proto::csi::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};

    use super::*;

    fn request() -> NodePublishVolumeRequest {
        NodePublishVolumeRequest {
            volume_id: "csi-1".to_owned(),
            target_path: "/k/pods/u-1/volumes/kubernetes.io~csi/v/mount".to_owned(),
            volume_capability: Some(VolumeCapability {
                access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
                access_type: Some(AccessType::Mount(MountVolume::default())),
            }),
            volume_context: [
                ("reference", "r.example/a:v1"),
                ("csi.storage.k8s.io/pod.uid", "u-1"),
                ("csi.storage.k8s.io/pod.namespace", "team"),
                ("csi.storage.k8s.io/ephemeral", "true"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
            ..Default::default()
        }
    }

    fn refused(change: impl FnOnce(&mut NodePublishVolumeRequest)) -> (Code, String) {
        let mut request = request();
        change(&mut request);
        let error = publish(request, Duration::ZERO).err().unwrap();
        let status = Status::from(error);
        (status.code(), status.message().to_owned())
    }

    fn mount(request: &mut NodePublishVolumeRequest) -> &mut MountVolume {
        match request.volume_capability.as_mut().unwrap().access_type.as_mut().unwrap() {
            AccessType::Mount(mount) => mount,
            AccessType::Block(_) => panic!("not a mount"),
        }
    }

    #[test]
    fn what_kubelet_sends_for_an_inline_volume_is_accepted() {
        let (parsed, question) = publish(request(), Duration::from_secs(1)).unwrap();
        assert_eq!(parsed.namespace, "team");
        assert_eq!(question.pod.uid, "u-1");
        assert_eq!(parsed.capability, "mount/SINGLE_NODE_WRITER");
        assert!(!parsed.readonly);
    }

    #[test]
    fn every_bad_request_has_its_code_and_names_the_field() {
        type Change = Box<dyn FnOnce(&mut NodePublishVolumeRequest)>;
        let cases: Vec<(Change, Code, &str)> = vec![
            (Box::new(|r| r.volume_id.clear()), Code::InvalidArgument, "volume_id"),
            (Box::new(|r| r.target_path.clear()), Code::InvalidArgument, "target_path"),
            (Box::new(|r| r.target_path = "a/b".into()), Code::InvalidArgument, "a/b"),
            (Box::new(|r| r.target_path = "/k/u-1/../x".into()), Code::InvalidArgument, ".."),
            (Box::new(|r| r.target_path = "/k/pods/u-2/v".into()), Code::InvalidArgument, "u-1"),
            (Box::new(|r| r.volume_capability = None), Code::InvalidArgument, "volume_capability"),
            (
                Box::new(|r| {
                    r.volume_capability.as_mut().unwrap().access_type =
                        Some(AccessType::Block(BlockVolume::default()));
                }),
                Code::InvalidArgument,
                "block",
            ),
            (
                Box::new(|r| r.volume_capability.as_mut().unwrap().access_mode = None),
                Code::InvalidArgument,
                "access mode",
            ),
            (
                Box::new(|r| {
                    r.volume_capability.as_mut().unwrap().access_mode =
                        Some(AccessMode { mode: Mode::MultiNodeMultiWriter.into() });
                }),
                Code::FailedPrecondition,
                "MULTI_NODE_MULTI_WRITER",
            ),
            (Box::new(|r| mount(r).mount_flags.push("exec".into())), Code::InvalidArgument, "`exec`"),
            (Box::new(|r| mount(r).fs_type = "ext4".into()), Code::InvalidArgument, "ext4"),
            (
                Box::new(|r| drop(r.volume_context.insert("refrence".into(), "x".into()))),
                Code::InvalidArgument,
                "refrence",
            ),
            (
                Box::new(|r| drop(r.volume_context.insert("reference".into(), "r.example/A".into()))),
                Code::InvalidArgument,
                "r.example/A",
            ),
        ];
        for (change, code, part) in cases {
            let (found, message) = refused(change);
            assert_eq!(found, code, "{message}");
            assert!(message.contains(part), "{part} not in: {message}");
        }
    }
}
