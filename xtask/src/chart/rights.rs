//! Who may do what: no wildcard, and secrets for the controller only, in namespaces that were named.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::chart::manifests::{Manifests, items, text, title};

/// Everything that nodes may do.
const OF_NODES: [(&str, &[&str]); 2] = [("events", &["create", "patch"]), ("nodes", &["get", "patch"])];

/// Judges roles and bindings.
pub(super) fn check(manifests: &Manifests) -> Result<()> {
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
    if text(name).starts_with("system:openshift:") {
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
        check(&Manifests::parse(&text).unwrap()).err().map(|error| error.to_string()).unwrap_or_default()
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
    fn wildcards_are_refused() {
        let all = judge("{apiGroups: ['*'], resources: [events], verbs: [create]}", "ClusterRoleBinding");
        assert_eq!(all, "ClusterRole r has a wildcard");
    }
}
