//! Volumes for claims: the rows of `csi.md`, "Codes of the controller", through the socket.

use std::time::Duration;

use http::Method;
use serde_json::json;
use stowage_artifact::Digest;
use stowage_controller::{Memory, Policy};
use stowage_csi_proto::csi::v1::controller_service_capability::{Rpc, Type, rpc};
use stowage_csi_proto::csi::v1::plugin_capability::{Service, Type as Offered, service};
use stowage_csi_proto::csi::v1::volume_capability::{AccessType, BlockVolume, access_mode::Mode};
use stowage_csi_proto::csi::v1::{
    CapacityRange, ControllerGetCapabilitiesRequest, CreateVolumeRequest, DeleteVolumeRequest,
    GetPluginCapabilitiesRequest, GetPluginInfoRequest, ListVolumesRequest, ProbeRequest,
    ValidateVolumeCapabilitiesRequest, VolumeContentSource,
};
use stowage_telemetry::Series as _;
use stowage_testkit::artifacts::oras_files;
use stowage_testkit::{BlobData, Fault, Registry, Target};
use tonic::Code;

use crate::api_server::pair;
use crate::plugin::{Builder, LIMIT, capability, map, request, told};

const SIZE: u64 = 100_000;
const VOLUME: &str = "/api/v1/persistentvolumes/pvc-1";
const CLAIM: &str = "/api/v1/namespaces/team/persistentvolumeclaims/llama";

fn push(registry: &Registry, tag: &str, seed: u64) -> Digest {
    let artifact = oras_files([("model.gguf", BlobData::generated(seed, SIZE))]).build().unwrap();
    registry.push("models/llama", Some(tag), &artifact)
}

async fn registry() -> (Registry, Digest) {
    let registry = Registry::builder().start().await.unwrap();
    let digest = push(&registry, "v1", 1);
    (registry, digest)
}

/// A request of `pvc-1` for a reference.
fn asks(reference: &str) -> CreateVolumeRequest {
    request("pvc-1", &[("reference", reference)])
}

#[tokio::test]
async fn the_services_say_who_they_are_and_what_they_can() {
    let plugin = Builder::default().start().await;
    let mut identity = plugin.identity();
    let info = identity.get_plugin_info(GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.name, "csi.stowage.dev");
    let offered =
        identity.get_plugin_capabilities(GetPluginCapabilitiesRequest {}).await.unwrap().into_inner();
    let service = Offered::Service(Service { r#type: service::Type::ControllerService.into() });
    let offered: Vec<_> =
        offered.capabilities.into_iter().map(|capability| capability.r#type.unwrap()).collect();
    assert_eq!(offered, [service]);
    assert_eq!(identity.probe(ProbeRequest {}).await.unwrap().into_inner().ready, Some(true));
    let mut controller = plugin.controller();
    let can = controller.controller_get_capabilities(ControllerGetCapabilitiesRequest {}).await.unwrap();
    let can: Vec<_> = can.into_inner().capabilities.into_iter().map(|one| one.r#type.unwrap()).collect();
    assert_eq!(can, [Type::Rpc(Rpc { r#type: rpc::Type::CreateDeleteVolume.into() })]);
    let listed = controller.list_volumes(ListVolumesRequest::default()).await.unwrap_err();
    assert_eq!(listed.code(), Code::Unimplemented);
    plugin.ended().await;
}

#[tokio::test]
async fn a_volume_is_pinned_sized_and_the_same_when_asked_for_again() {
    let (registry, digest) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    let plugin = Builder::default().start().await;
    let first = plugin.create(asks(&reference)).await.unwrap();
    assert_eq!(first.volume_id, "pvc-1");
    assert_eq!(first.capacity_bytes, i64::try_from(SIZE).unwrap());
    assert_eq!(first.volume_context["reference"], registry.pinned("models/llama", &digest));
    assert_eq!(first.volume_context["requestedReference"], reference);
    assert_eq!(first.volume_context["pullPolicy"], "IfNotPresent");
    // The tag moves, and the volume does not.
    push(&registry, "v1", 2);
    assert_eq!(plugin.create(asks(&reference)).await.unwrap(), first);
    let larger = CreateVolumeRequest {
        name: "pvc-2".to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 1 << 30, limit_bytes: 2 << 30 }),
        ..asks(&reference)
    };
    let other = plugin.create(larger).await.unwrap();
    assert_eq!(other.capacity_bytes, 1 << 30, "less than asked for never binds");
    assert_ne!(other.volume_context["reference"], first.volume_context["reference"]);
    let text = plugin.metrics.text().unwrap();
    assert!(text.contains("requests_total{method=\"create_volume\",result=\"ok\"} 3"), "{text}");
}

#[tokio::test]
async fn every_bad_request_is_refused_before_anybody_is_asked() {
    type Change = Box<dyn Fn(&mut CreateVolumeRequest)>;
    let (registry, _) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    registry.traffic().reset();
    let plugin = Builder::default().start().await;
    let change = |change: fn(&mut CreateVolumeRequest)| -> Change { Box::new(change) };
    let cases: Vec<(Change, Code, &str)> = vec![
        (change(|r| r.name.clear()), Code::InvalidArgument, "name"),
        (change(|r| r.name = "x".repeat(129)), Code::InvalidArgument, "129"),
        (change(|r| r.volume_capabilities.clear()), Code::InvalidArgument, "capabilities"),
        (
            change(|r| r.volume_capabilities[0].access_type = Some(AccessType::Block(BlockVolume {}))),
            Code::InvalidArgument,
            "block",
        ),
        (
            change(|r| r.volume_capabilities[0] = capability(Mode::MultiNodeMultiWriter)),
            Code::InvalidArgument,
            "MULTI_NODE_MULTI_WRITER",
        ),
        (
            change(|r| r.volume_content_source = Some(VolumeContentSource::default())),
            Code::InvalidArgument,
            "dataSource",
        ),
        (
            change(|r| drop(r.mutable_parameters.insert("a".into(), "b".into()))),
            Code::InvalidArgument,
            "volumeAttributesClassName",
        ),
        (
            change(|r| r.capacity_range = Some(CapacityRange { required_bytes: 2, limit_bytes: 1 })),
            Code::InvalidArgument,
            "2 to 1",
        ),
        (change(|r| r.parameters.clear()), Code::InvalidArgument, "`reference` is missing"),
        (
            change(|r| drop(r.parameters.insert("refrence".into(), "x".into()))),
            Code::InvalidArgument,
            "refrence",
        ),
        (
            change(|r| drop(r.parameters.insert("reference".into(), "r.example/A".into()))),
            Code::InvalidArgument,
            "r.example/A",
        ),
        (
            change(|r| drop(r.parameters.insert("include".into(), "${pvc.name}".into()))),
            Code::InvalidArgument,
            "--extra-create-metadata",
        ),
        (
            change(|r| drop(r.parameters.insert("allowedReferences".into(), "ghcr.io/acme/*".into()))),
            Code::PermissionDenied,
            "ghcr.io/acme/*",
        ),
        (
            change(|r| drop(r.secrets.insert("username".into(), "u".into()))),
            Code::InvalidArgument,
            "password",
        ),
    ];
    for (change, code, part) in cases {
        let mut request = asks(&reference);
        change(&mut request);
        let (found, message) = plugin.create(request).await.unwrap_err();
        assert_eq!(found, code, "{message}");
        assert!(message.contains(part), "{part} not in: {message}");
    }
    assert_eq!(registry.traffic().requests().len(), 0);
}

#[tokio::test]
async fn every_answer_of_a_registry_has_the_code_that_the_provisioner_needs() {
    let (registry, _) = registry().await;
    let down = Registry::builder().start().await.unwrap();
    push(&down, "v1", 1);
    down.faults().always(Target::Manifests, Fault::status(503));
    let private = Registry::builder().basic("robot", "hunter2").start().await.unwrap();
    push(&private, "v1", 1);
    let gone = Registry::builder().start().await.unwrap();
    let unreachable = gone.reference("models/llama", "v1");
    gone.go_offline().await;
    let plugin = Builder::default().start().await;
    for (reference, code) in [
        (registry.reference("models/llama", "v9"), Code::NotFound),
        (down.reference("models/llama", "v1"), Code::Internal),
        (private.reference("models/llama", "v1"), Code::Unauthenticated),
        (unreachable, Code::Internal),
        (format!("{}@sha256:{}", registry.host() + "/models/llama", "0".repeat(64)), Code::NotFound),
    ] {
        let (found, message) = plugin.create(asks(&reference)).await.unwrap_err();
        assert_eq!(found, code, "{message}");
    }
    // What failed is not remembered.
    down.faults().clear();
    plugin.create(asks(&down.reference("models/llama", "v1"))).await.unwrap();
    let text = plugin.metrics.text().unwrap();
    assert!(text.contains("requests_total{method=\"create_volume\",result=\"unauthenticated\"} 1"), "{text}");
}

#[tokio::test]
async fn the_provisioners_secret_opens_a_private_registry_and_the_file_is_second() {
    let private = Registry::builder().basic("robot", "hunter2").start().await.unwrap();
    push(&private, "v1", 1);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let plugin = Builder { docker_config: Some(file.clone()), ..Builder::default() }.start().await;
    let reference = private.reference("models/llama", "v1");
    let host = private.host();
    let secret = [("username", "robot"), ("password", "hunter2"), ("registry", &*host)];
    let with_secret = CreateVolumeRequest { secrets: map(&secret), ..asks(&reference) };
    plugin.create(with_secret).await.unwrap();
    let again = request("pvc-2", &[("reference", &*reference)]);
    assert_eq!(plugin.create(again.clone()).await.unwrap_err().0, Code::Unauthenticated);
    let config = json!({ "auths": { host: { "username": "robot", "password": "hunter2" } } });
    std::fs::write(&file, config.to_string()).unwrap();
    plugin.create(again).await.unwrap();
}

#[tokio::test]
async fn a_limit_below_the_artifact_is_out_of_range() {
    let (registry, _) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    let plugin = Builder::default().start().await;
    let size = i64::try_from(SIZE).unwrap();
    let limited = |limit_bytes| CreateVolumeRequest {
        capacity_range: Some(CapacityRange { required_bytes: 1, limit_bytes }),
        ..asks(&reference)
    };
    let (code, message) = plugin.create(limited(size - 1)).await.unwrap_err();
    assert_eq!(code, Code::OutOfRange);
    assert!(message.contains("100000") && message.contains("99999"), "{message}");
    assert_eq!(plugin.create(limited(size)).await.unwrap().capacity_bytes, size);
}

#[tokio::test]
async fn a_name_is_one_volume_until_it_is_deleted() {
    let (registry, _) = registry().await;
    push(&registry, "v2", 2);
    let (one, other) = (registry.reference("models/llama", "v1"), registry.reference("models/llama", "v2"));
    let plugin = Builder::default().start().await;
    plugin.create(asks(&one)).await.unwrap();
    let (code, message) = plugin.create(asks(&other)).await.unwrap_err();
    assert_eq!(code, Code::AlreadyExists);
    assert!(message.contains("pvc-1") && message.contains("parameters"), "{message}");
    let larger = CreateVolumeRequest {
        capacity_range: Some(CapacityRange { required_bytes: 1 << 40, limit_bytes: 0 }),
        ..asks(&one)
    };
    assert_eq!(plugin.create(larger).await.unwrap_err().0, Code::AlreadyExists);
    let delete =
        |id: &str| DeleteVolumeRequest { volume_id: id.to_owned(), ..DeleteVolumeRequest::default() };
    plugin.controller().delete_volume(delete("pvc-1")).await.unwrap();
    plugin.create(asks(&other)).await.unwrap();
    // What is unknown is gone already.
    for id in ["pvc-9", &"x".repeat(200)] {
        plugin.controller().delete_volume(delete(id)).await.unwrap();
    }
    assert_eq!(
        plugin.controller().delete_volume(delete("")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_second_call_of_a_name_is_aborted_while_the_first_runs_and_the_budget_ends_it() {
    let (registry, _) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    registry.faults().always(Target::Manifests, Fault::Silence);
    let plugin = Builder { budget: Duration::from_secs(3), ..Builder::default() }.start().await;
    let first = tokio::spawn({
        let (mut controller, request) = (plugin.controller(), asks(&reference));
        async move { controller.create_volume(request).await.map_err(told) }
    });
    assert!(registry.faults().until_stalled(1, LIMIT).await, "the first call did not ask");
    let (code, message) = plugin.create(asks(&reference)).await.unwrap_err();
    assert_eq!(code, Code::Aborted, "{message}");
    let delete = DeleteVolumeRequest { volume_id: "pvc-1".to_owned(), ..DeleteVolumeRequest::default() };
    let deleted = plugin.controller().delete_volume(delete).await;
    assert_eq!(deleted.unwrap_err().code(), Code::Aborted);
    let (code, message) = first.await.unwrap().unwrap_err();
    assert_eq!(code, Code::Internal);
    assert!(message.contains("within 3 s"), "{message}");
    registry.faults().clear();
    plugin.create(asks(&reference)).await.unwrap();
}

#[tokio::test]
async fn a_call_that_waits_is_answered_when_the_controller_stops() {
    let (registry, _) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    registry.faults().always(Target::Manifests, Fault::Silence);
    let plugin = Builder::default().start().await;
    let waiting = tokio::spawn({
        let (mut controller, request) = (plugin.controller(), asks(&reference));
        async move { controller.create_volume(request).await.map_err(told) }
    });
    assert!(registry.faults().until_stalled(1, LIMIT).await, "the call did not ask");
    plugin.stop.cancel();
    let (code, message) = waiting.await.unwrap().unwrap_err();
    assert_eq!(code, Code::Internal);
    assert!(message.contains("shutting down"), "{message}");
    plugin.ended().await;
}

#[tokio::test]
async fn the_administrators_policy_is_asked_first() {
    let (registry, _) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    registry.traffic().reset();
    let policy = Policy { allowed_registries: vec!["ghcr.io/acme/*".to_owned()], require_digest: false };
    let plugin = Builder { policy, ..Builder::default() }.start().await;
    let (code, message) = plugin.create(asks(&reference)).await.unwrap_err();
    assert_eq!(code, Code::PermissionDenied);
    assert!(message.contains("allowed registries"), "{message}");
    assert_eq!(registry.traffic().requests().len(), 0);
}

#[tokio::test]
async fn a_file_remembers_volumes_where_no_api_server_does() {
    let (registry, _) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("volumes.json");
    let start = async || Builder { memory: Memory::open(&file).unwrap(), ..Builder::default() }.start().await;
    let plugin = start().await;
    let first = plugin.create(asks(&reference)).await.unwrap();
    plugin.ended().await;
    push(&registry, "v1", 2);
    let plugin = start().await;
    assert_eq!(plugin.create(asks(&reference)).await.unwrap(), first);
    plugin.ended().await;
}

fn validate(id: &str) -> ValidateVolumeCapabilitiesRequest {
    ValidateVolumeCapabilitiesRequest {
        volume_id: id.to_owned(),
        volume_capabilities: vec![capability(Mode::MultiNodeReaderOnly)],
        ..ValidateVolumeCapabilitiesRequest::default()
    }
}

#[tokio::test]
async fn capabilities_are_confirmed_for_volumes_that_exist() {
    let (registry, _) = registry().await;
    let plugin = Builder::default().start().await;
    let volume = plugin.create(asks(&registry.reference("models/llama", "v1"))).await.unwrap();
    let mut controller = plugin.controller();
    let mut ask = async |request| {
        controller.validate_volume_capabilities(request).await.map(tonic::Response::into_inner)
    };
    let mut with_context = validate("pvc-1");
    with_context.volume_context.clone_from(&volume.volume_context);
    with_context.volume_context.insert("storage.kubernetes.io/csiProvisionerIdentity".into(), "1".into());
    with_context.parameters.insert("reference".into(), "r.example/never:compared".into());
    let confirmed = ask(with_context.clone()).await.unwrap().confirmed.unwrap();
    assert_eq!(confirmed.volume_capabilities, with_context.volume_capabilities);
    assert_eq!(confirmed.volume_context, volume.volume_context, "only what was compared is confirmed");
    assert!(confirmed.parameters.is_empty() && confirmed.mutable_parameters.is_empty());
    with_context.volume_context.insert("reference".into(), "r.example/other:v1".into());
    let other = ask(with_context).await.unwrap();
    assert!(other.confirmed.is_none() && other.message.contains("`reference`"), "{}", other.message);
    let mut writers = validate("pvc-1");
    writers.volume_capabilities.push(capability(Mode::MultiNodeMultiWriter));
    let refused = ask(writers).await.unwrap();
    assert!(refused.confirmed.is_none() && refused.message.contains("MULTI_NODE_MULTI_WRITER"));
    assert_eq!(ask(validate("pvc-9")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(ask(validate(&"x".repeat(200))).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(ask(validate("")).await.unwrap_err().code(), Code::InvalidArgument);
    let nothing = ValidateVolumeCapabilitiesRequest { volume_capabilities: Vec::new(), ..validate("pvc-1") };
    assert_eq!(ask(nothing).await.unwrap_err().code(), Code::InvalidArgument);
}

/// The PersistentVolume that the provisioner has made of a volume.
fn persistent(driver: &str, handle: &str, context: &serde_json::Value) -> serde_json::Value {
    json!({
        "metadata": { "name": "pvc-1" },
        "spec": {
            "capacity": { "storage": "1Gi" },
            "csi": { "driver": driver, "volumeHandle": handle, "volumeAttributes": context },
        },
    })
}

#[tokio::test]
async fn what_the_memory_has_lost_the_persistent_volume_says() {
    let (registry, digest) = registry().await;
    let reference = registry.reference("models/llama", "v1");
    registry.traffic().reset();
    let pinned = registry.pinned("models/llama", &digest);
    let context = json!({
        "reference": pinned, "requestedReference": reference, "pullPolicy": "IfNotPresent",
        "storage.kubernetes.io/csiProvisionerIdentity": "1-csi.stowage.dev",
    });
    let ours = persistent("csi.stowage.dev", "pvc-1", &context);
    let (client, mut server) = pair();
    let plugin = Builder { client: Some(client), ..Builder::default() }.start().await;
    let calls = tokio::spawn(async move {
        for _ in 0..3 {
            server.answer(Method::GET, VOLUME, 200, ours.clone()).await;
        }
        server.answer(Method::GET, VOLUME, 200, persistent("other.example", "pvc-1", &json!({}))).await;
        server.refuse(Method::GET, VOLUME, 500, "InternalError").await;
        server
    });
    let same = plugin.create(asks(&reference)).await.unwrap();
    assert_eq!((same.capacity_bytes, &*same.volume_context["reference"]), (1 << 30, &*pinned));
    assert!(!same.volume_context.contains_key("storage.kubernetes.io/csiProvisionerIdentity"));
    let other = request("pvc-1", &[("reference", &*reference), ("include", "*.gguf")]);
    assert_eq!(plugin.create(other).await.unwrap_err().0, Code::AlreadyExists);
    let confirmed = plugin.controller().validate_volume_capabilities(validate("pvc-1")).await.unwrap();
    assert!(confirmed.into_inner().confirmed.is_some());
    let (code, message) = plugin.create(asks(&reference)).await.unwrap_err();
    assert_eq!(code, Code::AlreadyExists, "{message}");
    let (code, message) = plugin.create(asks(&reference)).await.unwrap_err();
    assert_eq!(code, Code::Internal, "{message}");
    assert_eq!(registry.traffic().requests().len(), 0, "a volume that exists is not resolved again");
    plugin.ended().await;
    calls.await.unwrap().done().await;
}

#[tokio::test]
async fn what_another_replica_has_deleted_is_not_confirmed() {
    let (registry, _) = registry().await;
    let (client, mut server) = pair();
    let plugin = Builder { client: Some(client), ..Builder::default() }.start().await;
    let calls = tokio::spawn(async move {
        server.absent(Method::GET, VOLUME).await;
        server.absent(Method::GET, VOLUME).await;
        server
    });
    plugin.create(asks(&registry.reference("models/llama", "v1"))).await.unwrap();
    let gone = plugin.controller().validate_volume_capabilities(validate("pvc-1")).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    plugin.ended().await;
    calls.await.unwrap().done().await;
}

#[tokio::test]
async fn a_claims_annotation_chooses_within_what_the_class_allows() {
    let (registry, digest) = registry().await;
    let allowed = format!("{}/models/*", registry.host());
    let (client, mut server) = pair();
    let plugin = Builder { client: Some(client), ..Builder::default() }.start().await;
    let claim = |reference: &str| json!({ "metadata": { "name": "llama", "annotations": { "stowage.dev/reference": reference } } });
    let (good, evil) =
        (claim(&registry.reference("models/llama", "v1")), claim("evil.example/models/llama:v1"));
    let calls = tokio::spawn(async move {
        server.answer(Method::GET, CLAIM, 200, good).await;
        server.absent(Method::GET, VOLUME).await;
        server.answer(Method::GET, CLAIM, 200, evil).await;
        server.answer(Method::GET, CLAIM, 200, json!({ "metadata": { "name": "llama" } })).await;
        server.absent(Method::GET, CLAIM).await;
        server
    });
    let asks = |name: &str| {
        request(
            name,
            &[
                ("reference", "${pvc.annotations['stowage.dev/reference']}"),
                ("allowedReferences", &allowed),
                ("csi.storage.k8s.io/pvc/name", "llama"),
                ("csi.storage.k8s.io/pvc/namespace", "team"),
                ("csi.storage.k8s.io/pv/name", name),
            ],
        )
    };
    let volume = plugin.create(asks("pvc-1")).await.unwrap();
    assert_eq!(volume.volume_context["reference"], registry.pinned("models/llama", &digest));
    for (code, part) in [
        (Code::PermissionDenied, "evil.example"),
        (Code::InvalidArgument, "has no annotation"),
        (Code::NotFound, "team/llama"),
    ] {
        let (found, message) = plugin.create(asks("pvc-2")).await.unwrap_err();
        assert_eq!(found, code, "{message}");
        assert!(message.contains(part), "{part} not in: {message}");
    }
    plugin.ended().await;
    calls.await.unwrap().done().await;

    let without = Builder::default().start().await;
    let (code, message) = without.create(asks("pvc-3")).await.unwrap_err();
    assert_eq!(code, Code::FailedPrecondition, "{message}");
}
