//! Whatever a configuration file names is mounted into the container that reads it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::chart::manifests::{Manifests, items, text, title};
use crate::chart::pods;

/// Where configurations name files and directories.
const NAMED: [&str; 5] = [
    "/registries/caFiles",
    "/mirrors/hostsDirs",
    "/credentials/dockerConfig",
    "/credentials/providers/configFile",
    "/credentials/providers/binDir",
];

/// Judges the configuration of both parts.
pub(super) fn check(manifests: &Manifests) -> Result<()> {
    for part in ["node", "controller"] {
        for map in manifests.of_kind("ConfigMap") {
            let Some(file) = map["data"][format!("{part}.yaml")].as_str() else { continue };
            let configuration: Value = serde_saphyr::from_str(file).context("a configuration is no YAML")?;
            let reader = pods::workloads(manifests)
                .find(|object| {
                    object["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == part
                })
                .with_context(|| format!("nothing reads {part}.yaml"))?;
            let container = &reader["spec"]["template"]["spec"]["containers"][0];
            let mounts: Vec<&str> =
                items(&container["volumeMounts"]).iter().map(|mount| text(&mount["mountPath"])).collect();
            for path in named(&configuration) {
                let held =
                    mounts.iter().any(|mount| path == *mount || path.starts_with(&format!("{mount}/")));
                ensure!(held, "{} names {path}, which {} does not mount", title(map), title(reader));
            }
        }
    }
    Ok(())
}

fn named(configuration: &Value) -> Vec<&str> {
    let values = NAMED.iter().filter_map(|key| configuration.pointer(key));
    values.flat_map(|value| value.as_str().into_iter().chain(items(value).iter().map(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(mount: &str) -> String {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata:\n  controller.yaml: |\n    registries: \
             {{caFiles: [/etc/lan/ca.pem]}}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: \
             {{template: {{metadata: {{labels: {{app.kubernetes.io/component: controller}}}}, spec: {{containers: [{{volumeMounts: \
             [{{mountPath: {mount}}}]}}]}}}}}}\n"
        );
        check(&Manifests::parse(&text).unwrap()).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_file_that_nothing_mounts_is_found() {
        assert_eq!(judge("/etc/lan"), "");
        assert_eq!(judge("/etc/lan/ca.pem"), "");
        assert_eq!(judge("/etc/la"), "ConfigMap m names /etc/lan/ca.pem, which Deployment d does not mount");
    }
}
