//! Charts by `helm`.

use std::path::PathBuf;

use super::trees::{Seed, plant};
use super::{Shop, shop};
use crate::harness::digest_of;

/// A chart as `helm package` wrote it and `helm push` uploaded it.
pub(super) struct Chart {
    pub(super) reference: String,
    pub(super) package: PathBuf,
}

const CHART_YAML: &str = "apiVersion: v2\nname: anchor\nversion: 1.2.3-rc.1\nappVersion: \"7\"\n";
const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\n";

/// Packages a chart and pushes it.
pub(super) async fn push(shop: &Shop) -> Chart {
    let source = shop.home.join("anchor");
    plant(
        &source,
        &[
            ("Chart.yaml", Seed::File(0o644, CHART_YAML)),
            ("values.yaml", Seed::File(0o600, "replicas: 1\n")),
            (".helmignore", Seed::File(0o644, "*.bak\n")),
            ("left-out.bak", Seed::File(0o644, "x")),
            ("README.md", Seed::File(0o644, "# anchor\n")),
            ("templates/config.yaml", Seed::File(0o644, CONFIG_MAP)),
            ("templates/tests/run.yaml", Seed::File(0o644, CONFIG_MAP)),
            ("files/empty.txt", Seed::File(0o644, "")),
            ("charts/rope/Chart.yaml", Seed::File(0o644, "apiVersion: v2\nname: rope\nversion: 0.1.0\n")),
        ],
    );
    let helm = shop.tools["helm"].clone().current_dir(&shop.home).env("HOME", &shop.home);
    let helm = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"]
        .into_iter()
        .fold(helm, |helm, variable| helm.env(variable, shop.home.join("helm")));
    helm.run(&["package", "anchor", "--destination", "packages"]).await.unwrap();
    let package = shop.home.join("packages/anchor-1.2.3-rc.1.tgz");
    let arguments = [
        "push".to_owned(),
        package.display().to_string(),
        format!("oci://{}/team/charts", shop.registry.host()),
        format!("--ca-file={}", shop.registry.ca_file().display()),
        format!("--registry-config={}", shop.home.join("config.json").display()),
    ];
    helm.run(&arguments).await.unwrap();
    Chart { reference: shop.registry.reference("team/charts/anchor", "1.2.3-rc.1"), package }
}

#[test]
fn a_chart_pushed_by_helm_is_the_file_that_helm_packaged() {
    shop(async |shop| {
        let chart = push(shop).await;
        let (volume, _) = shop.publish(&chart.reference).await;
        let files: Vec<_> =
            std::fs::read_dir(&volume.target).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files, [volume.target.join("anchor-1.2.3-rc.1.tgz")]);
        assert_eq!(digest_of(&files[0]), digest_of(&chart.package));
        shop.unpublish(&volume).await;
    });
}
