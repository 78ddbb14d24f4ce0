//! Who may do what: no wildcard, and secrets for the controller only, in namespaces that were named.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::chart::cases::Case;
use crate::chart::manifests::{Manifests, items, text, title};

/// Everything that nodes may do.
const OF_NODES: [(&str, &[&str]); 2] = [("events", &["create", "patch"]), ("nodes", &["get", "patch"])];

/// What an admission policy keeps to its shape, wherever an account of the chart may write it.
const PINNED: [&str; 3] = ["daemonsets", "persistentvolumes", "nodes"];

/// What the cluster's own roles for security constraints are called on `OpenShift`.
const CONSTRAINTS: &str = "system:openshift:scc:";

/// Judges roles and bindings.
pub(super) fn check(case: &Case, manifests: &Manifests) -> Result<()> {
    let openshift = case.api_versions.contains(&"security.openshift.io/v1");
    for object in manifests.iter() {
        constraints(openshift, manifests, object)?;
    }
    if !case.values.contains("admissionPolicies: false") {
        pinned(manifests)?;
    }
    roles_and_bindings(manifests)
}

/// Every way in which a role may write what is pinned is one that a policy looks at, old object and new.
fn pinned(manifests: &Manifests) -> Result<()> {
    for role in manifests.of_kind("ClusterRole") {
        for rule in items(&role["rules"]) {
            let written = items(&rule["resources"]).iter().filter(|name| PINNED.contains(&text(name)));
            for resource in written {
                for verb in items(&rule["verbs"]).iter().map(text) {
                    let (operation, object) = match verb {
                        "create" => ("CREATE", "object."),
                        "update" | "patch" => ("UPDATE", "oldObject."),
                        "delete" | "deletecollection" => ("DELETE", "oldObject."),
                        _ => continue,
                    };
                    let looked_at = manifests.of_kind("ValidatingAdmissionPolicy").any(|policy| {
                        let rules = items(&policy["spec"]["matchConstraints"]["resourceRules"]);
                        let matches = rules.iter().any(|matched| {
                            items(&matched["resources"]).contains(resource)
                                && items(&matched["operations"]).iter().any(|name| name == operation)
                        });
                        matches && policy["spec"].to_string().contains(object)
                    });
                    ensure!(looked_at, "{} may {verb} {resource}, and no policy looks at it", title(role));
                }
            }
        }
    }
    Ok(())
}

/// The rights of the controller are those that its reference lists, one resource a row.
pub(super) fn documented(reference: &str, manifests: &Manifests) -> Result<()> {
    let section =
        reference.split_once("## What the controller may do").context("there is no such section")?.1;
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.trim().trim_matches('|').split('|').map(str::trim);
        let resource = cells.next()?.strip_suffix('`')?.rsplit('`').next()?;
        let verbs = cells.next()?.split(", ").map(str::to_owned).collect();
        Some((resource.to_owned(), verbs))
    });
    let told: BTreeMap<String, BTreeSet<String>> = rows.collect();
    let mut granted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for binding in manifests.of_kind("ClusterRoleBinding").chain(manifests.of_kind("RoleBinding")) {
        let theirs = |subject: &Value| text(&subject["name"]).ends_with("-controller");
        if !items(&binding["subjects"]).iter().any(theirs) {
            continue;
        }
        let Some(role) = role_of(manifests, binding)? else { continue };
        for rule in items(&role["rules"]) {
            for resource in items(&rule["resources"]) {
                let verbs = items(&rule["verbs"]).iter().map(|verb| text(verb).to_owned());
                granted.entry(text(resource).to_owned()).or_default().extend(verbs);
            }
        }
    }
    ensure!(told == granted, "the reference tells of {told:?}, and the chart gives {granted:?}");
    Ok(())
}

/// On `OpenShift` a pod that is privileged or chooses its user is refused unless its account may, and elsewhere nobody binds what
/// is not there.
fn constraints(openshift: bool, manifests: &Manifests, object: &Value) -> Result<()> {
    let pod = match text(&object["kind"]) {
        "Pod" => &object["spec"],
        "DaemonSet" | "Deployment" | "Job" => &object["spec"]["template"]["spec"],
        _ => return Ok(()),
    };
    let account = &pod["serviceAccountName"];
    let bound: Vec<&str> = manifests
        .of_kind("RoleBinding")
        .filter(|binding| items(&binding["subjects"]).iter().any(|subject| subject["name"] == *account))
        .filter_map(|binding| text(&binding["roleRef"]["name"]).strip_prefix(CONSTRAINTS))
        .collect();
    let contexts: Vec<&Value> = std::iter::once(&pod["securityContext"])
        .chain(items(&pod["containers"]).iter().map(|container| &container["securityContext"]))
        .collect();
    let any = |keys: &[&str]| contexts.iter().any(|context| keys.iter().any(|key| !context[*key].is_null()));
    let wanted: &[&str] =
        match (openshift, any(&["privileged"]), any(&["runAsUser", "runAsGroup", "fsGroup"])) {
            (true, true, _) => &["privileged"],
            (true, false, true) => &["nonroot-v2"],
            _ => &[],
        };
    ensure!(bound == wanted, "{} needs the constraints {wanted:?} and has {bound:?}", title(object));
    Ok(())
}

fn roles_and_bindings(manifests: &Manifests) -> Result<()> {
    for role in manifests.of_kind("ClusterRole").chain(manifests.of_kind("Role")) {
        for rule in items(&role["rules"]) {
            for key in ["apiGroups", "resources", "verbs"] {
                ensure!(
                    !items(&rule[key]).iter().any(|word| text(word).contains('*')),
                    "{} has a wildcard",
                    title(role)
                );
            }
            for verb in items(&rule["verbs"]).iter().map(text) {
                ensure!(!["bind", "escalate", "impersonate"].contains(&verb), "{} may {verb}", title(role));
            }
        }
        if allows_secrets(role) {
            ensure!(
                role["kind"] == "ClusterRole" && items(&role["rules"]).len() == 1,
                "{} has more",
                title(role)
            );
            ensure!(
                items(&role["rules"][0]["verbs"]) == ["get"],
                "{} does more than get secrets",
                title(role)
            );
        }
    }
    for binding in manifests.of_kind("ClusterRoleBinding").chain(manifests.of_kind("RoleBinding")) {
        let role = role_of(manifests, binding)?;
        let node =
            items(&binding["subjects"]).iter().any(|subject| text(&subject["name"]).ends_with("-node"));
        if role.is_some_and(allows_secrets) {
            ensure!(
                binding["kind"] == "RoleBinding",
                "{} gives secrets of the whole cluster",
                title(binding)
            );
            ensure!(!node, "{} gives secrets to nodes", title(binding));
        }
        if let Some(role) = role.filter(|_| node) {
            only_what_nodes_may(role)?;
        }
        for subject in items(&binding["subjects"]) {
            let there = manifests
                .of_kind("ServiceAccount")
                .any(|account| account["metadata"]["name"] == subject["name"]);
            ensure!(there, "{} is for {}, which is not there", title(binding), subject["name"]);
        }
    }
    Ok(())
}

fn allows_secrets(role: &Value) -> bool {
    items(&role["rules"])
        .iter()
        .any(|rule| items(&rule["resources"]).iter().any(|name| text(name).starts_with("secrets")))
}

/// The role of a binding; none where it is one of the cluster's own.
fn role_of<'a>(manifests: &'a Manifests, binding: &'a Value) -> Result<Option<&'a Value>> {
    let (kind, name) = (text(&binding["roleRef"]["kind"]), &binding["roleRef"]["name"]);
    if text(name).starts_with(CONSTRAINTS) {
        return Ok(None);
    }
    let found = manifests.of_kind(kind).find(|role| role["metadata"]["name"] == *name);
    found.with_context(|| format!("{} binds {name}, which is not there", title(binding))).map(Some)
}

fn only_what_nodes_may(role: &Value) -> Result<()> {
    for rule in items(&role["rules"]) {
        for resource in items(&rule["resources"]).iter().map(text) {
            let allowed = OF_NODES.iter().find(|(name, _)| *name == resource).map(|(_, verbs)| *verbs);
            let allowed = allowed.with_context(|| format!("nodes have rights on {resource}"))?;
            for verb in items(&rule["verbs"]).iter().map(text) {
                ensure!(allowed.contains(&verb), "nodes may {verb} {resource}");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: stowage-node}\n---\n";

    fn judge(role: &str, binding: &str) -> String {
        let text = format!(
            "{ACCOUNT}apiVersion: a/v1\nkind: ClusterRole\nmetadata: {{name: r}}\nrules: [{role}]\n---\napiVersion: a/v1\nkind: \
             {binding}\nmetadata: {{name: b}}\nroleRef: {{kind: ClusterRole, name: r}}\nsubjects: [{{name: stowage-node}}]\n"
        );
        roles_and_bindings(&Manifests::parse(&text).unwrap())
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn nodes_get_what_they_need_and_nothing_else() {
        assert_eq!(
            judge("{apiGroups: [''], resources: [events], verbs: [create]}", "ClusterRoleBinding"),
            ""
        );
        let pods = judge("{apiGroups: [''], resources: [pods], verbs: [list]}", "ClusterRoleBinding");
        assert_eq!(pods, "nodes have rights on pods");
        let delete = judge("{apiGroups: [''], resources: [nodes], verbs: [delete]}", "ClusterRoleBinding");
        assert_eq!(delete, "nodes may delete nodes");
    }

    #[test]
    fn secrets_are_for_nobody_in_the_whole_cluster_and_never_for_nodes() {
        let secrets = "{apiGroups: [''], resources: [secrets], verbs: [get]}";
        assert_eq!(
            judge(secrets, "ClusterRoleBinding"),
            "ClusterRoleBinding b gives secrets of the whole cluster"
        );
        assert_eq!(judge(secrets, "RoleBinding"), "RoleBinding b gives secrets to nodes");
    }

    #[test]
    fn a_pod_that_openshift_would_refuse_is_found() {
        let text = format!(
            "{ACCOUNT}apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{serviceAccountName: stowage-node, containers: \
             [{{securityContext: {{runAsUser: 65532}}}}]}}\n"
        );
        let manifests = Manifests::parse(&text).unwrap();
        let pod = manifests.the("Pod").unwrap();
        constraints(false, &manifests, pod).unwrap();
        let error = constraints(true, &manifests, pod).unwrap_err().to_string();
        assert_eq!(error, "Pod p needs the constraints [\"nonroot-v2\"] and has []");
    }

    const MAY_DELETE: &str = "apiVersion: a/v1\nkind: ClusterRole\nmetadata: {name: r}\nrules: [{apiGroups: [''], resources: \
                              [persistentvolumes], verbs: [get, delete]}]\n---\n";

    #[test]
    fn a_right_that_no_policy_looks_at_is_found() {
        let judge = |operations: &str, expression: &str| {
            let text = format!(
                "{MAY_DELETE}apiVersion: a/v1\nkind: ValidatingAdmissionPolicy\nmetadata: {{name: p}}\nspec: {{matchConstraints: \
                 {{resourceRules: [{{resources: [persistentvolumes], operations: [{operations}]}}]}}, validations: [{{expression: \
                 {expression}}}]}}\n"
            );
            pinned(&Manifests::parse(&text).unwrap()).is_ok()
        };
        assert!(judge("CREATE, DELETE", "oldObject.spec.csi"));
        assert!(!judge("CREATE", "oldObject.spec.csi"));
        assert!(!judge("DELETE", "object.spec.csi"));
    }

    #[test]
    fn a_right_that_the_reference_does_not_tell_is_found() {
        let text = format!(
            "{MAY_DELETE}apiVersion: a/v1\nkind: ClusterRoleBinding\nmetadata: {{name: b}}\nroleRef: {{kind: ClusterRole, name: \
             r}}\nsubjects: [{{name: stowage-controller}}]\n"
        );
        let manifests = Manifests::parse(&text).unwrap();
        let reference = |verbs: &str| {
            format!(
                "## What the controller may do\n\n| resource | verbs |\n| --- | --- |\n| core `persistentvolumes` | {verbs} | x |\n"
            )
        };
        documented(&reference("delete, get"), &manifests).unwrap();
        assert!(documented(&reference("get"), &manifests).is_err());
    }

    #[test]
    fn wildcards_are_refused() {
        let all = judge("{apiGroups: ['*'], resources: [events], verbs: [create]}", "ClusterRoleBinding");
        assert_eq!(all, "ClusterRole r has a wildcard");
    }
}
