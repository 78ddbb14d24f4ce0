//! What must hold in every rendering, whatever the values.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::chart::cases::{Case, SECOND};
use crate::chart::helm::NAMESPACE;
use crate::chart::manifests::{Manifests, items, text, title};
use crate::chart::{files, pods, rights};

/// Kinds that belong to no namespace.
const OF_THE_CLUSTER: [&str; 8] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "CSIDriver",
    "CustomResourceDefinition",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "Namespace",
];

/// Judges a rendering; the error is the first thing that does not hold.
pub(super) fn check(case: &Case, manifests: &Manifests) -> Result<()> {
    labels_and_namespaces(case, manifests)?;
    names_are_unique(manifests)?;
    driver(case, manifests)?;
    selectors(manifests)?;
    bindings_of_policies(manifests)?;
    definition(case, manifests)?;
    if case.release == SECOND {
        shares_nothing(manifests)?;
    }
    pods::check(case, manifests)?;
    files::check(manifests)?;
    rights::check(case, manifests)
}

fn labels_and_namespaces(case: &Case, manifests: &Manifests) -> Result<()> {
    for object in manifests.iter() {
        let metadata = &object["metadata"];
        let labels = &metadata["labels"];
        ensure!(labels["app.kubernetes.io/name"] == "stowage", "{} has no name label", title(object));
        ensure!(
            labels["app.kubernetes.io/instance"] == case.release,
            "{} has no instance label",
            title(object)
        );
        let namespace = metadata["namespace"].as_str();
        if OF_THE_CLUSTER.contains(&text(&object["kind"])) {
            ensure!(namespace.is_none(), "{} has a namespace", title(object));
        } else {
            // Rights on secrets are given where the secrets are.
            let elsewhere =
                object["kind"] == "RoleBinding" && text(&object["roleRef"]["name"]).ends_with("-secrets");
            ensure!(elsewhere || namespace == Some(NAMESPACE), "{} has another namespace", title(object));
        }
    }
    Ok(())
}

fn names_are_unique(manifests: &Manifests) -> Result<()> {
    let mut seen = Vec::new();
    for object in manifests.iter() {
        let identity = (
            object["kind"].clone(),
            object["metadata"]["name"].clone(),
            object["metadata"]["namespace"].clone(),
        );
        ensure!(!seen.contains(&identity), "{} is there twice", title(object));
        ensure!(text(&object["metadata"]["name"]).len() <= 63, "{} has a long name", title(object));
        seen.push(identity);
    }
    Ok(())
}

/// The figures of `docs/concepts` and of the CSI contract.
fn driver(case: &Case, manifests: &Manifests) -> Result<()> {
    let driver = manifests.the("CSIDriver")?;
    let spec = &driver["spec"];
    for (key, value) in [
        ("attachRequired", json!(false)),
        ("podInfoOnMount", json!(true)),
        ("fsGroupPolicy", json!("None")),
        ("storageCapacity", json!(false)),
        ("seLinuxMount", json!(false)),
        ("requiresRepublish", json!(false)),
    ] {
        ensure!(spec[key] == value, "the CSIDriver has {key}: {}, not {value}", spec[key]);
    }
    let modes: Vec<&str> = items(&spec["volumeLifecycleModes"]).iter().map(text).collect();
    ensure!(modes == ["Ephemeral", "Persistent"], "the CSIDriver has the modes {modes:?}");
    let profile = &driver["metadata"]["labels"]["security.openshift.io/csi-ephemeral-volume-profile"];
    ensure!(profile == "restricted", "the CSIDriver has no profile for OpenShift");
    let audiences: Vec<&Value> =
        items(&spec["tokenRequests"]).iter().map(|token| &token["audience"]).collect();
    for (index, audience) in audiences.iter().enumerate() {
        ensure!(
            !audiences[..index].contains(audience),
            "the CSIDriver asks twice for a token for {audience}"
        );
    }
    // The API server refuses the one without the other.
    let tokens = !items(&spec["tokenRequests"]).is_empty();
    let in_secrets = spec["serviceAccountTokenInSecrets"] == true;
    let can = case.kubernetes != super::helm::OLDEST;
    ensure!(in_secrets == (tokens && can), "the CSIDriver has serviceAccountTokenInSecrets: {in_secrets}");
    for class in manifests.of_kind("StorageClass") {
        ensure!(class["provisioner"] == driver["metadata"]["name"], "{} is of another driver", title(class));
    }
    Ok(())
}

/// What selects pods selects some.
fn selectors(manifests: &Manifests) -> Result<()> {
    let templates: Vec<&Value> =
        pods::workloads(manifests).map(|object| &object["spec"]["template"]).collect();
    let selected = |labels: &Value| {
        let wanted = labels.as_object().map(|labels| labels.iter().collect::<Vec<_>>()).unwrap_or_default();
        let has = |template: &&&Value| {
            wanted.iter().all(|(key, value)| template["metadata"]["labels"][key.as_str()] == **value)
        };
        if wanted.is_empty() { 0 } else { templates.iter().filter(has).count() }
    };
    for object in manifests.iter() {
        let (labels, least) = match text(&object["kind"]) {
            "DaemonSet" | "Deployment" | "PodDisruptionBudget" => {
                (&object["spec"]["selector"]["matchLabels"], 1)
            }
            "NetworkPolicy" => (&object["spec"]["podSelector"]["matchLabels"], 1),
            "PodMonitor" => (&object["spec"]["selector"]["matchLabels"], 2),
            _ => continue,
        };
        let found = selected(labels);
        let right = if object["kind"] == "PodMonitor" { found >= least } else { found == least };
        ensure!(right, "{} selects {found} workloads", title(object));
    }
    Ok(())
}

/// The `CustomResourceDefinition` stays at an uninstall unless the values say otherwise.
fn definition(case: &Case, manifests: &Manifests) -> Result<()> {
    for definition in manifests.of_kind("CustomResourceDefinition") {
        let stays = definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        ensure!(stays != case.values.contains("keep: false"), "{} stays: {stays}", title(definition));
    }
    Ok(())
}

/// What a second installation must leave to the first: names of the cluster, a port of the nodes, all `CachedArtifact` objects.
fn shares_nothing(manifests: &Manifests) -> Result<()> {
    let definition = manifests.of_kind("CustomResourceDefinition").next();
    ensure!(definition.is_none(), "a second installation brings the definition again");
    ensure!(
        manifests.the("CSIDriver")?["metadata"]["name"] != "csi.stowage.dev",
        "the driver is there twice"
    );
    for object in pods::workloads(manifests) {
        for argument in items(&object["spec"]["template"]["spec"]["containers"][0]["args"]).iter().map(text) {
            ensure!(argument != "--prefetch=true", "two controllers look after the same objects");
            ensure!(argument != "--http=0.0.0.0:29808", "two plugins want the same port of a node");
        }
    }
    for object in manifests.iter().filter(|object| OF_THE_CLUSTER.contains(&text(&object["kind"]))) {
        let name = text(&object["metadata"]["name"]);
        ensure!(name.contains(SECOND), "{} is the first installation's too", title(object));
    }
    Ok(())
}

/// A policy that is bound to nothing has no effect.
fn bindings_of_policies(manifests: &Manifests) -> Result<()> {
    for policy in manifests.of_kind("ValidatingAdmissionPolicy") {
        let name = &policy["metadata"]["name"];
        let bound = manifests.of_kind("ValidatingAdmissionPolicyBinding").any(|binding| {
            binding["spec"]["policyName"] == *name
                && items(&binding["spec"]["validationActions"]).contains(&json!("Deny"))
        });
        if !bound {
            bail!("{} denies nothing", title(policy));
        }
        let named = items(&policy["spec"]["matchConditions"]).iter().any(|condition| {
            text(&condition["expression"]).rsplit_once(':').is_some_and(|(_, account)| {
                let account = account.trim_end_matches('\'');
                manifests.of_kind("ServiceAccount").any(|object| object["metadata"]["name"] == account)
            })
        });
        ensure!(named, "{} is about no service account of the chart", title(policy));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::cases::CASES;

    fn judge(text: &str, judge: impl Fn(&Manifests) -> Result<()>) -> String {
        judge(&Manifests::parse(text).unwrap()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_policy_without_binding_is_found() {
        let policy = "apiVersion: a/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {name: p}\nspec: {}\n";
        assert_eq!(judge(policy, bindings_of_policies), "ValidatingAdmissionPolicy p denies nothing");
    }

    #[test]
    fn a_selector_that_matches_nothing_is_found() {
        let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec:\n  selector: {matchLabels: {a: b}}\n  \
                    template: {metadata: {labels: {a: c}}}\n";
        assert_eq!(judge(text, selectors), "Deployment d selects 0 workloads");
    }

    #[test]
    fn a_definition_that_goes_or_stays_against_the_values_is_found() {
        let text = |annotations: &str| {
            format!(
                "apiVersion: a/v1\nkind: CustomResourceDefinition\nmetadata: {{name: c, annotations: {annotations}}}\n"
            )
        };
        let kept = Case { values: "", ..CASES[0] };
        let goes = Case { values: "crds: {keep: false}", ..CASES[0] };
        for (case, annotations, wrong) in [
            (kept, "{helm.sh/resource-policy: keep}", false),
            (kept, "{}", true),
            (goes, "{helm.sh/resource-policy: keep}", true),
            (goes, "{}", false),
        ] {
            let said = judge(&text(annotations), |manifests| definition(&case, manifests));
            assert_eq!(!said.is_empty(), wrong, "{said}");
        }
    }

    #[test]
    fn a_driver_that_must_be_attached_is_found() {
        let text = "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {name: d}\nspec: {attachRequired: true}\n";
        assert!(
            judge(text, |manifests| driver(&CASES[0], manifests)).contains("attachRequired: true, not false")
        );
    }
}
