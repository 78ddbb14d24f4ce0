//! Values that the chart is rendered with, and values that it must refuse.

use crate::chart::helm::{NEWEST, OLDEST};

/// A set of values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) release: &'static str,
    pub(super) kubernetes: &'static str,
    pub(super) api_versions: &'static [&'static str],
    /// What differs from `values.yaml`.
    pub(super) values: &'static str,
}

/// A set of values that Helm must not accept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) case: Case,
    /// Part of what it says.
    pub(super) because: &'static str,
}

/// The release of a second installation in one cluster.
pub(super) const SECOND: &str = "second";

const fn case(name: &'static str, values: &'static str) -> Case {
    Case { name, release: "stowage", kubernetes: OLDEST, api_versions: &[], values }
}

const fn refusal(name: &'static str, values: &'static str, because: &'static str) -> Refusal {
    Refusal { case: case(name, values), because }
}

/// What is rendered and judged.
pub(super) const CASES: [Case; 18] = [
    case("defaults", ""),
    Case { kubernetes: NEWEST, ..case("defaults-newest", "") },
    Case {
        kubernetes: NEWEST,
        api_versions: &["security.openshift.io/v1"],
        ..case("everything-on", include_str!("cases/everything-on.yaml"))
    },
    Case { api_versions: &["security.openshift.io/v1"], ..case("openshift", "") },
    case("everything-off", include_str!("cases/everything-off.yaml")),
    case("definition-goes", "crds: {install: true, keep: false}"),
    case("other-kubelet", "kubelet: {rootDir: /var/lib/k0s/kubelet/}"),
    case("no-controller", "controller: {enabled: false}"),
    case("no-provisioner", "controller: {provisioner: {enabled: false}, secretNamespaces: [models]}"),
    case("no-prefetch", "controller: {prefetch: false, replicas: 1}"),
    case(
        "air-gap",
        "global: {imageRegistry: 'registry.lan:5000/mirror'}\nimagePullSecrets: [{name: pull}]\nimage: {digest: \
         'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}",
    ),
    Case {
        release: SECOND,
        ..case(
            "second-driver",
            "csiDriver: {name: second.example.dev}\nnode: {http: {port: 29809}}\ncrds: {install: false}\ncontroller: {prefetch: false}",
        )
    },
    case("own-disk", "node: {store: {hostPath: /mnt/nvme/stowage}}"),
    case("loopback", "node: {http: {address: 127.0.0.1}}"),
    case(
        "own-disk-in-the-usual-place",
        "node: {store: {hostPath: /var/lib/kubelet/plugins/csi.stowage.dev/store/}}",
    ),
    case("dependency", "enabled: true\nglobal: {other: value}"),
    case("ipv6", "node: {http: {address: '[::]'}}\ncontroller: {http: {address: '[::]'}}"),
    case("controller-files", include_str!("cases/controller-files.yaml")),
];

/// What must be refused, by the schema or by a template.
pub(super) const REFUSALS: [Refusal; 35] = [
    refusal("unknown-section", "nodes: {}", "nodes"),
    refusal("unknown-key", "node: {hostnetwork: true}", "hostnetwork"),
    refusal("unknown-configuration", "node: {config: {mirror: {}}}", "mirror"),
    refusal("unknown-limit", "node: {config: {limits: {maxConnection: 1}}}", "maxConnection"),
    refusal("controller-has-no-store", "controller: {config: {store: {}}}", "store"),
    refusal("surge", "node: {updateStrategy: {rollingUpdate: {maxSurge: 1}}}", "maxSurge"),
    refusal("relative-kubelet", "kubelet: {rootDir: var/lib/kubelet}", "rootDir"),
    refusal("driver-name", "csiDriver: {name: CSI_Stowage}", "csiDriver"),
    refusal("driver-name-ends-in-a-digit", "csiDriver: {name: csi.stowage.dev1}", "csiDriver"),
    refusal("port", "node: {http: {port: 0}}", "port"),
    refusal("name-for-an-address", "node: {http: {address: localhost}}", "address"),
    refusal("store-in-etc", "node: {store: {hostPath: /etc/stowage}}", "hostPath"),
    refusal(
        "store-among-pods",
        "node: {store: {hostPath: /var/lib/kubelet/pods/x}}",
        "a directory of its own",
    ),
    refusal("store-is-kubelet", "node: {store: {hostPath: /var/lib/kubelet}}", "a directory of its own"),
    refusal(
        "store-among-plugins",
        "node: {store: {hostPath: /var/lib/kubelet/plugins}}",
        "a directory of its own",
    ),
    refusal(
        "store-above-kubelet",
        "kubelet: {rootDir: /data/k8s/kubelet}\nnode: {store: {hostPath: /data/k8s/}}",
        "a directory of its own",
    ),
    refusal(
        "store-by-detour",
        "node: {store: {hostPath: /mnt/../var/lib/kubelet}}",
        "write it as /var/lib/kubelet",
    ),
    refusal("kubelet-by-detour", "kubelet: {rootDir: /var/lib/../kubelet}", "rootDir"),
    refusal("no-names-at-all", "node: {dnsPolicy: None}", "dnsPolicy"),
    refusal(
        "provisioner-without-version",
        "controller: {provisioner: {image: {tag: ''}}}",
        "provisioner/image",
    ),
    refusal(
        "metrics-that-nobody-reads",
        "node: {http: {address: 127.0.0.1}}\nmonitoring: {podMonitor: {enabled: true}}",
        "Prometheus cannot read",
    ),
    refusal("no-replicas", "controller: {replicas: 0}", "replicas"),
    refusal(
        "controller-without-work",
        "controller: {prefetch: false, provisioner: {enabled: false}}",
        "set controller.enabled to false",
    ),
    refusal("class-without-name", "storageClasses: [{parameters: {}}]", "name"),
    refusal("class-that-writes", "storageClasses: [{name: a, mountOptions: [rw]}]", "mountOptions"),
    refusal("short-digest", "image: {digest: 'sha256:0123'}", "digest"),
    refusal("unreachable-probes", "node: {hostNetwork: false, http: {address: 127.0.0.1}}", "host's network"),
    refusal(
        "unreachable-probes-ipv6",
        "node: {hostNetwork: false, http: {address: '[::1]'}}",
        "host's network",
    ),
    refusal(
        "unreachable-controller",
        "controller: {http: {address: 127.0.0.1}}",
        "cannot reach the controller",
    ),
    refusal(
        "controller-without-its-certificates",
        "controller: {config: {registries: {caFiles: [/etc/ssl/lan/ca.crt]}}}",
        "which no volume of the controller holds",
    ),
    refusal(
        "controller-without-its-hosts",
        "controller:\n  config: {mirrors: {hostsDirs: [/etc/hosts.d]}}\n  extraVolumes: [{name: h, emptyDir: {}}]\n  \
         extraVolumeMounts: [{name: h, mountPath: /etc/hosts}]\n",
        "which no volume of the controller holds",
    ),
    refusal("alerts-without-metrics", "monitoring: {alerts: {enabled: true}}", "podMonitor"),
    refusal("hidden-directory", "node: {config: {mirrors: {hostsDirs: [/etc]}}}", "hide the image's own"),
    refusal(
        "short-token",
        "csiDriver: {tokenRequests: [{audience: a, expirationSeconds: 60}]}",
        "expirationSeconds",
    ),
    refusal("no-certificate", "caCertificates: nonsense", "caCertificates"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: BTreeSet<_> = CASES
            .iter()
            .map(|case| case.name)
            .chain(REFUSALS.iter().map(|refusal| refusal.case.name))
            .collect();
        assert_eq!(names.len(), CASES.len() + REFUSALS.len());
    }
}
