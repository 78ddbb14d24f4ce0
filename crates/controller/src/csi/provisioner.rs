//! Makes volumes: resolves, pins, sizes, and gives a repeated call the same answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use stowage_artifact::VolumeAttributes;
use stowage_csi_proto::csi::v1::validate_volume_capabilities_response::Confirmed;
use stowage_csi_proto::csi::v1::{
    CreateVolumeRequest, DeleteVolumeRequest, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse, Volume,
};
use tokio_util::sync::CancellationToken;

use super::capability;
use super::capacity::Bounds;
use super::cluster::{Cluster, Known};
use super::error::ControllerError;
use super::memory::{Made, Memory};
use super::names::{Names, Taken};
use super::parameters::Parameters;
use crate::credentials;
use crate::resolve::Resolver;

/// The longest name of a volume, which is also its id (CSI spec, "Size Limits").
const LONGEST_NAME: usize = 128;
/// How long a call may take, well below the provisioner's own 60 s.
pub(crate) const BUDGET: Duration = Duration::from_secs(45);

/// Settings of the provisioner.
pub struct ProvisionerOptions {
    /// The CSI driver name.
    pub driver_name: String,
    /// Resolves references.
    pub resolver: Resolver,
    /// The API server; without it annotations of claims cannot be read.
    pub client: Option<Client>,
    /// Where volumes are remembered.
    pub memory: Memory,
    /// The controller's own docker configuration, read anew for each volume.
    pub docker_config: Option<PathBuf>,
    /// How long a call may take.
    pub budget: Duration,
}

impl ProvisionerOptions {
    /// The usual settings: a volatile memory, 45 s for each call.
    pub fn new(driver_name: String, resolver: Resolver, client: Option<Client>) -> Self {
        Self {
            driver_name,
            resolver,
            client,
            memory: Memory::volatile(),
            docker_config: None,
            budget: BUDGET,
        }
    }
}

/// Makes volumes. Cheap to clone.
#[derive(Clone)]
pub struct Provisioner {
    inner: Arc<Inner>,
}

struct Inner {
    driver_name: String,
    resolver: Resolver,
    cluster: Cluster,
    memory: Memory,
    docker_config: Option<PathBuf>,
    budget: Duration,
    names: Names,
    stop: CancellationToken,
}

impl Provisioner {
    /// A provisioner whose waiting calls end when `stop` is cancelled.
    pub fn new(options: ProvisionerOptions, stop: CancellationToken) -> Self {
        let ProvisionerOptions { driver_name, resolver, client, memory, docker_config, budget } = options;
        let cluster = client
            .map_or(Cluster::None, |client| Cluster::Kubernetes { client, driver: driver_name.clone() });
        let names = Names::default();
        let inner = Inner { driver_name, resolver, cluster, memory, docker_config, budget, names, stop };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn driver_name(&self) -> &str {
        &self.inner.driver_name
    }

    /// Makes the volume, or finds the one that an earlier call has made.
    pub(crate) async fn create(&self, request: CreateVolumeRequest) -> Result<Volume, ControllerError> {
        let name = given(request.name, "name")?;
        if name.len() > LONGEST_NAME {
            return Err(ControllerError::LongName(name.len()));
        }
        capability::check(&request.volume_capabilities)?;
        if request.volume_content_source.is_some() {
            return Err(ControllerError::ContentSource);
        }
        if !request.mutable_parameters.is_empty() {
            return Err(ControllerError::MutableParameters);
        }
        let bounds = Bounds::parse(request.capacity_range.as_ref())?;
        let parameters = Parameters::parse(request.parameters)?;
        let taken = self.take(&name)?;
        let made = self.within_budget(&name, self.make(&name, &parameters, bounds, request.secrets)).await?;
        drop(taken);
        Ok(Volume {
            capacity_bytes: made.capacity.unwrap_or_default(),
            volume_id: name,
            volume_context: made.context.into_iter().collect(),
            content_source: None,
            accessible_topology: Vec::new(),
        })
    }

    async fn make(
        &self,
        name: &str,
        parameters: &Parameters,
        bounds: Bounds,
        secrets: std::collections::HashMap<String, String>,
    ) -> Result<Made, ControllerError> {
        let inner = &*self.inner;
        let annotations = match parameters.annotations_of()? {
            Some(claim) => inner.cluster.annotations(claim).await?,
            None => BTreeMap::new(),
        };
        let attributes = parameters.expand(&annotations)?;
        inner.resolver.check(&attributes.reference)?;
        if let Some(made) = self.known(name).await? {
            return same(name, made, &attributes, bounds);
        }
        let credential =
            credentials::of_request(secrets, inner.docker_config.as_ref(), &attributes.reference).await?;
        let resolved = inner.resolver.resolve(&attributes, credential).await?;
        let capacity = bounds.capacity(resolved.size)?;
        tracing::info!(volume = name, reference = resolved.reference, capacity, "volume made");
        let made = Made::new(&attributes, resolved.reference, capacity);
        inner.memory.put(name, made.clone()).await?;
        Ok(made)
    }

    /// The volume of that name, by the memory or by the cluster.
    async fn known(&self, name: &str) -> Result<Option<Made>, ControllerError> {
        if let Some(made) = self.inner.memory.get(name).await {
            return Ok(Some(made));
        }
        match self.inner.cluster.volume(name).await? {
            Known::Absent => Ok(None),
            Known::Ours(made) => Ok(Some(made)),
            Known::Foreign => Err(ControllerError::Conflict { name: name.to_owned(), what: "drivers" }),
        }
    }

    /// The volume of that name that exists now: another replica may have deleted what this one remembers.
    async fn existing(&self, name: &str) -> Result<Option<Made>, ControllerError> {
        match &self.inner.cluster {
            // Nothing was ever made with such a name.
            _ if name.len() > LONGEST_NAME => Ok(None),
            Cluster::None => Ok(self.inner.memory.get(name).await),
            Cluster::Kubernetes { .. } => match self.inner.cluster.volume(name).await? {
                Known::Ours(made) => Ok(Some(made)),
                Known::Absent | Known::Foreign => Ok(None),
            },
        }
    }

    /// Forgets the volume: there is nothing in a registry that would have to go with it.
    pub(crate) async fn delete(&self, request: DeleteVolumeRequest) -> Result<(), ControllerError> {
        let name = given(request.volume_id, "volume_id")?;
        let _taken = self.take(&name)?;
        Ok(self.inner.memory.forget(&name).await?)
    }

    /// Says whether an existing volume can be used so.
    pub(crate) async fn validate(
        &self,
        request: ValidateVolumeCapabilitiesRequest,
    ) -> Result<ValidateVolumeCapabilitiesResponse, ControllerError> {
        let name = given(request.volume_id, "volume_id")?;
        if request.volume_capabilities.is_empty() {
            return Err(capability::CapabilityError::None.into());
        }
        let known = self.within_budget(&name, self.existing(&name)).await;
        let made = match known {
            Ok(Some(made)) => made,
            Ok(None) => return Err(ControllerError::Unknown(name)),
            Err(error) => return Err(error),
        };
        let not = |message: String| ValidateVolumeCapabilitiesResponse { confirmed: None, message };
        if let Err(error) = capability::check(&request.volume_capabilities) {
            return Ok(not(error.to_string()));
        }
        let mut volume_context = request.volume_context;
        // The provisioner adds keys of its own, of which nothing is known here.
        volume_context.retain(|key, _| !key.contains('/'));
        let other = volume_context.iter().find(|(key, value)| made.context.get(*key) != Some(*value));
        if let Some((key, _)) = other {
            return Ok(not(format!(
                "volume {name} has another `{key}` in its context; use what it was made with"
            )));
        }
        // What was not compared is not confirmed: a claim's own part of the parameters is not known any more.
        let confirmed = Confirmed {
            volume_context,
            volume_capabilities: request.volume_capabilities,
            ..Confirmed::default()
        };
        Ok(ValidateVolumeCapabilitiesResponse { confirmed: Some(confirmed), message: String::new() })
    }

    fn take(&self, name: &str) -> Result<Taken, ControllerError> {
        self.inner.names.take(name).ok_or_else(|| ControllerError::Busy(name.to_owned()))
    }

    /// Ends the work when its time is over, or the process is to end.
    async fn within_budget<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, ControllerError>>,
    ) -> Result<T, ControllerError> {
        let budget = self.inner.budget;
        tokio::select! {
            ended = tokio::time::timeout(budget, work) => {
                ended.unwrap_or_else(|_| Err(ControllerError::TooSlow { name: name.to_owned(), budget }))
            }
            () = self.inner.stop.cancelled() => Err(ControllerError::Stopping),
        }
    }
}

/// A volume that exists is the answer to a call that asks for the same.
fn same(
    name: &str,
    made: Made,
    attributes: &VolumeAttributes,
    bounds: Bounds,
) -> Result<Made, ControllerError> {
    let conflict = |what| Err(ControllerError::Conflict { name: name.to_owned(), what });
    if !made.is_of(attributes) {
        return conflict("parameters");
    }
    if made.capacity.is_some_and(|capacity| !bounds.allow(capacity)) {
        return conflict("capacity");
    }
    Ok(made)
}

fn given(text: String, field: &'static str) -> Result<String, ControllerError> {
    if text.is_empty() { Err(ControllerError::Missing(field)) } else { Ok(text) }
}
