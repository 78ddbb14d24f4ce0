//! The registry in the cluster: our own image, which stocks itself, as three registries in one pod behind one Service.
//!
//! One is open, one wants a user, one is slow. Its books are read through the API server, so that nothing but the
//! kubeconfig is needed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use http::Request;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::labels;
use crate::pods;
use crate::wait::Wait;

/// The name of the pod and the Service.
const NAME: &str = "registry";
/// The user of the private registry, and the password.
pub(crate) const USER: &str = "ada";
/// See [`USER`].
pub(crate) const PASSWORD: &str = "open sesame";
/// Bytes a second of each connection to the slow registry: with the 12 connections that a blob is read over by default,
/// 2 GiB take two and a half minutes.
const SLOW: u64 = 1_200_000;
/// How long image pull and stocking may take.
const READY: Duration = Duration::from_mins(5);

const MIB: u64 = 1 << 20;

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum House {
    /// Everybody may pull.
    Open,
    /// Only [`USER`] may pull.
    Private,
    /// Everybody may pull, slowly.
    Slow,
}

/// What is stocked where: house, family, repository, bytes of the largest file.
const STOCK: [(House, &str, &str, u64); 16] = [
    (House::Open, "oras", "samples/preflight", MIB),
    (House::Open, "oras", "samples/oras", 4 * MIB),
    (House::Open, "modelpack", "samples/modelpack", 4 * MIB),
    (House::Open, "oras", "samples/static-pv", 4 * MIB),
    (House::Open, "oras", "samples/storage-class", 4 * MIB),
    (House::Open, "oras", "samples/cached-artifact", 16 * MIB),
    (House::Open, "oras", "samples/plugin-restart", 16 * MIB),
    (House::Open, "oras", "samples/rolling-upgrade", 16 * MIB),
    (House::Open, "oras", "samples/restricted", MIB),
    (House::Open, "oras", "samples/read-only", MIB),
    (House::Open, "image", "samples/image", 8 * MIB),
    (House::Private, "oras", "samples/pull-secret", 4 * MIB),
    (House::Private, "oras", "samples/wrong-secret", 4 * MIB),
    (House::Slow, "oras", "samples/shared", 256 * MIB),
    (House::Slow, "oras", "samples/cut", 768 * MIB),
    (House::Slow, "oras", "samples/large", 2048 * MIB),
];

impl House {
    const ALL: [Self; 3] = [Self::Open, Self::Private, Self::Slow];

    const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Private => "private",
            Self::Slow => "slow",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Open => 5000,
            Self::Private => 5001,
            Self::Slow => 5002,
        }
    }

    const fn books(self) -> u16 {
        self.port() + 80
    }
}

/// An artifact in the registry.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// Its reference by tag.
    pub(crate) reference: String,
    /// The digest of its manifest.
    pub(crate) digest: String,
    /// Its files.
    pub(crate) files: Vec<SampleFile>,
}

/// A file of a sample.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SampleFile {
    pub(crate) path: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

impl Sample {
    /// Its reference by digest.
    pub(crate) fn pinned(&self) -> String {
        let end = self.reference.rfind('/').unwrap_or(0);
        let colon = self.reference[end..].find(':').map_or(self.reference.len(), |colon| end + colon);
        format!("{}@{}", &self.reference[..colon], self.digest)
    }

    /// Its largest file.
    pub(crate) fn largest(&self) -> Result<&SampleFile> {
        self.files.iter().max_by_key(|file| file.size).context("the sample has no file")
    }
}

#[derive(Deserialize)]
struct Listed {
    repository: String,
    tag: String,
    digest: String,
    files: Vec<SampleFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Traffic {
    bytes_served: BTreeMap<String, u64>,
}

/// The registry in the cluster.
#[derive(Clone)]
pub(crate) struct Registry {
    client: Client,
    namespace: String,
    address: IpAddr,
    samples: BTreeMap<String, (House, Sample)>,
}

impl Registry {
    /// Makes the Service, whose address the plugin has to be told before anything is pulled.
    pub(crate) async fn reserve(
        client: &Client,
        namespace: &str,
        run: &str,
        wanted: Option<IpAddr>,
    ) -> Result<Self> {
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let service: Service = serde_json::from_value(service(run, wanted))?;
        let made = services.create(&PostParams::default(), &service).await.with_context(|| {
            let address = wanted.map(|address| format!(" at {address}")).unwrap_or_default();
            format!(
                "cannot make the registry's Service{address}; is the address free and in the cluster's range?"
            )
        })?;
        let address = made.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
        let address =
            address.parse().map_err(|_| anyhow!("the registry's Service has no address: `{address}`"))?;
        Ok(Self {
            client: client.clone(),
            namespace: namespace.to_owned(),
            address,
            samples: BTreeMap::new(),
        })
    }

    /// Starts the pod, waits until everything is stocked, and reads what there is.
    pub(crate) async fn start(mut self, image: &str, run: &str) -> Result<Self> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pod: Pod = serde_json::from_value(pod(image, run))?;
        pods.create(&PostParams::default(), &pod).await.context("cannot make the registry's pod")?;
        Wait::new("the registry is stocked and ready", READY)
            .until(async || Ok(pods::ready(&pods.get(NAME).await?)))
            .await?;
        for house in House::ALL {
            let listed: Vec<Listed> = self.book(house, "samples").await?;
            for sample in listed {
                let reference = format!("{}/{}:{}", self.host(house), sample.repository, sample.tag);
                let known = Sample { reference, digest: sample.digest, files: sample.files };
                self.samples.insert(sample.repository, (house, known));
            }
        }
        Ok(self)
    }

    /// The hosts that the plugin has to speak plain http to.
    pub(crate) fn hosts(&self) -> Vec<String> {
        House::ALL.map(|house| self.host(house)).into()
    }

    /// `address:port` as references have it.
    pub(crate) fn host(&self, house: House) -> String {
        match self.address {
            IpAddr::V4(address) => format!("{address}:{}", house.port()),
            IpAddr::V6(address) => format!("[{address}]:{}", house.port()),
        }
    }

    /// The artifact in a repository.
    pub(crate) fn sample(&self, repository: &str) -> Result<&Sample> {
        let (_, sample) =
            self.samples.get(repository).with_context(|| format!("the registry has no {repository}"))?;
        Ok(sample)
    }

    /// Bytes that the registry has sent of a blob.
    pub(crate) async fn bytes_served(&self, repository: &str, digest: &str) -> Result<u64> {
        let (house, _) =
            self.samples.get(repository).with_context(|| format!("the registry has no {repository}"))?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let pod = pods.get(NAME).await.context("the registry's pod is not there")?;
        ensure!(pods::restarts(&pod) == 0, "the registry was restarted, and its books begin anew");
        let traffic: Traffic = self.book(*house, "traffic").await?;
        traffic
            .bytes_served
            .get(digest)
            .copied()
            .with_context(|| format!("the registry's books do not know {digest}"))
    }

    /// One without samples, at an address of its own.
    #[cfg(test)]
    pub(crate) fn for_tests(client: Client) -> Self {
        let address = [10, 96, 0, 9].into();
        Self { client, namespace: "ns".into(), address, samples: BTreeMap::new() }
    }

    async fn book<T: serde::de::DeserializeOwned>(&self, house: House, page: &str) -> Result<T> {
        let path =
            format!("/api/v1/namespaces/{}/pods/{NAME}:{}/proxy/{page}", self.namespace, house.books());
        let request = Request::get(path).body(Vec::new()).context("cannot form the request")?;
        let text = self.client.request_text(request).await.with_context(|| {
            format!("cannot read the {} registry's {page} through the API server", house.name())
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("the {} registry's {page} are not understood: {text}", house.name()))
    }
}

fn service(run: &str, address: Option<IpAddr>) -> Value {
    let ports = House::ALL.map(|house| json!({ "name": house.name(), "port": house.port() }));
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": NAME },
        "spec": { "selector": { labels::RUN: run, labels::SCENARIO: NAME }, "ports": ports },
    });
    if let Some(address) = address {
        service["spec"]["clusterIP"] = json!(address.to_string());
    }
    labels::mark(&mut service, run, NAME);
    service
}

fn pod(image: &str, run: &str) -> Value {
    let containers = House::ALL.map(|house| container(house, image, run));
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": NAME },
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 1,
            // A cluster may have no node without a taint.
            "tolerations": [{ "operator": "Exists" }],
            "securityContext": {
                "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": containers,
            "volumes": [{ "name": "tmp", "emptyDir": {} }],
        },
    });
    labels::mark(&mut pod, run, NAME);
    pod
}

fn container(house: House, image: &str, run: &str) -> Value {
    let mut arguments = vec![
        "test-registry".to_owned(),
        format!("--listen=0.0.0.0:{}", house.port()),
        format!("--books=0.0.0.0:{}", house.books()),
        format!("--salt={run}"),
        // Nodes remember tags, and their stores outlive a run: a name that no other run had.
        format!("--tag={run}"),
    ];
    let own = STOCK.iter().filter(|(of, ..)| *of == house);
    arguments
        .extend(own.map(|(_, family, repository, bytes)| format!("--sample={family}:{repository}:{bytes}")));
    match house {
        House::Open => {}
        House::Private => arguments.push(format!("--user={USER}:{PASSWORD}")),
        House::Slow => arguments.push(format!("--rate={SLOW}")),
    }
    json!({
        "name": house.name(),
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "ports": [{ "containerPort": house.port() }, { "containerPort": house.books() }],
        "readinessProbe": { "httpGet": { "path": "/healthz", "port": house.books() }, "periodSeconds": 2 },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api_server::ApiServer;

    #[test]
    fn the_manifests_are_what_kubernetes_reads() {
        let pod: Pod = serde_json::from_value(pod("img", "run-1")).unwrap();
        let spec = pod.spec.unwrap();
        assert_eq!(spec.containers.len(), 3);
        let slow = spec.containers[2].args.clone().unwrap();
        assert!(slow.contains(&"--sample=oras:samples/large:2147483648".to_owned()), "{slow:?}");
        assert!(slow.contains(&"--rate=1200000".to_owned()), "{slow:?}");
        assert!(slow.contains(&"--tag=run-1".to_owned()), "{slow:?}");
        assert!(!slow.iter().any(|argument| argument.starts_with("--user")), "{slow:?}");
        let service: Service = serde_json::from_value(service("run-1", Some([10, 96, 0, 9].into()))).unwrap();
        let spec = service.spec.unwrap();
        assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.0.9"));
        let labels = pod.metadata.labels.unwrap();
        assert!(spec.selector.unwrap().iter().all(|(key, value)| labels.get(key) == Some(value)));
    }

    #[test]
    fn the_slow_registry_is_slower_than_kubelets_two_minutes() {
        let (_, _, _, bytes) = STOCK.iter().find(|(_, _, name, _)| *name == "samples/large").unwrap();
        assert!(bytes / (SLOW * 12) > 130, "{} s", bytes / (SLOW * 12));
    }

    #[tokio::test]
    async fn the_books_are_read_through_the_api_server() {
        let server = ApiServer::new();
        let mut registry = Registry::for_tests(server.client());
        let sample = Sample { reference: String::new(), digest: String::new(), files: Vec::new() };
        registry.samples.insert("samples/shared".into(), (House::Slow, sample));
        let asked = async {
            let served = registry.bytes_served("samples/shared", "sha256:a").await.unwrap();
            let unknown = registry.bytes_served("samples/shared", "sha256:b").await.unwrap_err();
            let anew = registry.bytes_served("samples/shared", "sha256:a").await.unwrap_err();
            (served, unknown.to_string(), anew.to_string())
        };
        let pod = |restarts: i32| {
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "registry" }, "status": {
                "phase": "Running", "containerStatuses": [{
                    "name": "slow", "image": "i", "imageID": "", "ready": true, "restartCount": restarts,
                }],
            }})
        };
        let books = json!({ "requests": 3, "bytesServed": { "sha256:a": 42 } });
        let path = "/api/v1/namespaces/ns/pods/registry:5082/proxy/traffic";
        let (answers, ()) = tokio::join!(asked, async {
            for _ in 0..2 {
                server.expect("GET", "/api/v1/namespaces/ns/pods/registry").await.answer(200, &pod(0));
                server.expect("GET", path).await.answer(200, &books);
            }
            server.expect("GET", "/api/v1/namespaces/ns/pods/registry").await.answer(200, &pod(1));
        });
        let unknown = "the registry's books do not know sha256:b".to_owned();
        let anew = "the registry was restarted, and its books begin anew".to_owned();
        assert_eq!(answers, (42, unknown, anew));
        server.nothing_more();
    }

    #[test]
    fn a_pinned_reference_has_the_digest_in_place_of_the_tag() {
        let sample = |reference: &str| {
            Sample { reference: reference.into(), digest: "sha256:a".into(), files: Vec::new() }.pinned()
        };
        assert_eq!(sample("10.96.0.9:5000/samples/a:v1"), "10.96.0.9:5000/samples/a@sha256:a");
        assert_eq!(sample("[fd00::9]:5000/samples/a:v1"), "[fd00::9]:5000/samples/a@sha256:a");
    }

    #[tokio::test]
    async fn a_taken_address_is_explained() {
        let server = ApiServer::new();
        let client = server.client();
        let address = Some("10.96.0.9".parse().unwrap());
        let (made, ()) = tokio::join!(Registry::reserve(&client, "ns", "r", address), async {
            let call = server.expect("POST", "/api/v1/namespaces/ns/services").await;
            assert_eq!(call.body()["spec"]["clusterIP"], "10.96.0.9");
            call.refuse(422, "Invalid", "provided IP is already allocated");
        });
        let error = format!("{:#}", made.err().unwrap());
        assert!(error.contains("at 10.96.0.9") && error.contains("already allocated"), "{error}");
        server.nothing_more();
    }

    #[tokio::test]
    async fn an_address_of_version_six_stands_in_brackets() {
        let mut registry = Registry::for_tests(ApiServer::new().client());
        assert_eq!(registry.hosts(), ["10.96.0.9:5000", "10.96.0.9:5001", "10.96.0.9:5002"]);
        registry.address = "fd00::9".parse().unwrap();
        assert_eq!(registry.host(House::Private), "[fd00::9]:5001");
    }
}
