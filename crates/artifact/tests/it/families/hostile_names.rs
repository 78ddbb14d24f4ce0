//! Properties of the families whose names come from foreign documents: whatever stands there, the plan is an error in one
//! sentence, or all its paths stay in the volume and no two of them collide.

use proptest::prelude::*;
use serde_json::{Value, json};
use stowage_artifact::{Family, Layout, LayoutMode, PlanOptions, TarMode, plan};

use crate::fixture::{DOCKER_CONFIG, FILEPATH, ORAS_CONFIG, artifact, artifact_with, digest, layer, titled};
use crate::hostile::{check_plan, name};

fn tar() -> impl Strategy<Value = Option<TarMode>> {
    prop::sample::select(vec![None, Some(TarMode::Expand), Some(TarMode::File)])
}

fn kit_part() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec!["model", "modelpart", "dataset", "code", "docs", "mcpserver", ""]);
    let format = prop::sample::select(vec!["tar", "tar+gzip", "tar+zstd", "raw", "raw+gzip", "gguf"]);
    (part, format).prop_map(|(part, format)| format!("application/vnd.kitops.modelkit.{part}.v1.{format}"))
}

/// An entry of a Kitfile with a hostile path, matched by the digest of one of the layers or by order.
fn kit_entry() -> impl Strategy<Value = Value> {
    (name(), prop::option::of("[a-c]")).prop_map(|(path, content)| match content {
        Some(content) => json!({"path": path, "digest": digest(&content).to_string()}),
        None => json!({"path": path}),
    })
}

fn kitfile() -> impl Strategy<Value = Value> {
    let entries = || prop::collection::vec(kit_entry(), 0..4);
    (prop::option::of(kit_entry()), entries(), entries(), entries(), entries()).prop_map(
        |(model, parts, code, datasets, docs)| {
            let mut kitfile = json!({"code": code, "datasets": datasets, "docs": docs});
            if let Some(mut model) = model {
                model["parts"] = json!(parts);
                kitfile["model"] = model;
            }
            kitfile
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn paths_of_a_kitfile(
        kitfile in kitfile(),
        layers in prop::collection::vec((kit_part(), "[a-c]"), 0..5),
        tar in tar(),
    ) {
        let kitfile = kitfile.to_string();
        let layers: Vec<Value> =
            layers.iter().map(|(media_type, content)| layer(media_type, content, &[])).collect();
        let config = "application/vnd.kitops.modelkit.config.v1+json";
        let manifest = artifact_with(None, config, &kitfile, &layers);
        let options = PlanOptions { tar, ..PlanOptions::default() };
        check_plan(&plan(&manifest, Some(kitfile.as_bytes()), &options));
    }

    #[test]
    fn any_bytes_as_a_config(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[\\[\\]{}:,&*a-d'\"| \n\\-]{0,60}".prop_map(String::into_bytes),
        ],
        kind in prop::sample::select(vec![
            ("application/vnd.kitops.modelkit.config.v1+json", "application/vnd.kitops.modelkit.docs.v1.raw"),
            ("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
            ("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"),
            ("application/vnd.cncf.model.config.v1+json", "application/vnd.cncf.model.doc.v1.tar+gzip"),
        ]),
    ) {
        let manifest = artifact(None, kind.0, &[layer(kind.1, "x", &[])]);
        check_plan(&plan(&manifest, Some(&bytes), &PlanOptions::default()));
    }

    #[test]
    fn names_of_ollamas_layers(
        layers in prop::collection::vec(
            (prop::sample::select(vec!["model", "tensor", "json", "license", "x"]), "[a-c]", prop::option::of(name())),
            0..6,
        ),
        title in prop::option::of(name()),
    ) {
        let layers: Vec<Value> = layers.iter().map(|(kind, content, name)| {
            let titles: Vec<(&str, &str)> = title.iter().map(|title| (FILEPATH, title.as_str())).collect();
            let mut layer = layer(&format!("application/vnd.ollama.image.{kind}"), content, &titles);
            if let Some(name) = name {
                layer["name"] = json!(name);
            }
            layer
        }).collect();
        let manifest = artifact(None, DOCKER_CONFIG, &layers);
        check_plan(&plan(&manifest, None, &PlanOptions::default()));
    }

    #[test]
    fn references_as_ollamas_directories(reference in "(ollama://)?[a-zA-Z0-9.:/_\\-\\[\\]]{1,60}") {
        let model = layer("application/vnd.ollama.image.model", "m", &[]);
        let manifest = artifact(None, DOCKER_CONFIG, &[model]);
        if let Ok(reference) = reference.parse() {
            let options = PlanOptions {
                layout: LayoutMode::Ollama, reference: Some(reference), ..PlanOptions::default()
            };
            check_plan(&plan(&manifest, None, &options));
        }
    }

    #[test]
    fn metadata_of_files(
        metadata in prop_oneof![
            any::<String>(),
            ("[0-9]{1,12}", "[0-9]{1,4}", name()).prop_map(|(mode, flag, name)| {
                format!("{{\"mode\":{mode},\"typeflag\":{flag},\"size\":{mode},\"name\":{}}}", json!(name))
            }),
            "[{}\\[\\]\",:a-z0-9]{0,40}",
        ],
        path in name(),
    ) {
        let annotations = [(FILEPATH, path.as_str()), ("org.cncf.model.file.metadata+json", metadata.as_str())];
        for media_type in ["application/vnd.cncf.model.code.v1.raw+zstd", "application/vnd.docker.ai.model.file"] {
            let manifest = artifact(None, ORAS_CONFIG, &[layer(media_type, "x", &annotations)]);
            check_plan(&plan(&manifest, Some(b"{}"), &PlanOptions::default()));
        }
    }

    #[test]
    fn names_of_charts(name in name(), version in name(), tar in tar()) {
        let config = json!({"name": name, "version": version}).to_string();
        let chart = layer("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "x", &[]);
        let manifest = artifact_with(None, "application/vnd.cncf.helm.config.v1+json", &config, &[chart]);
        let options = PlanOptions { tar, ..PlanOptions::default() };
        let plan = plan(&manifest, Some(config.as_bytes()), &options);
        check_plan(&plan);
        // A chart is one file at the top.
        if let Ok(plan) = plan {
            prop_assert!(plan.layout.entries().keys().all(|path| path.components().count() == 1));
        }
    }

    #[test]
    fn predicates_of_statements(predicates in prop::collection::vec(prop::option::of(name()), 1..4)) {
        let layers: Vec<Value> = predicates.iter().enumerate().map(|(number, predicate)| {
            let annotations: Vec<_> =
                predicate.iter().map(|text| ("in-toto.io/predicate-type", text.as_str())).collect();
            layer("application/vnd.in-toto+json", &number.to_string(), &annotations)
        }).collect();
        check_plan(&plan(&artifact(None, ORAS_CONFIG, &layers), None, &PlanOptions::default()));
    }

    #[test]
    fn a_family_never_takes_a_name_from_another_artifacts_config(bytes in prop::collection::vec(any::<u8>(), 0..50)) {
        let with = plan(&artifact(None, ORAS_CONFIG, &[titled("a")]), Some(&bytes), &PlanOptions::default());
        let without = plan(&artifact(None, ORAS_CONFIG, &[titled("a")]), None, &PlanOptions::default());
        prop_assert_eq!(with.as_ref().map(|plan| plan.family), Ok(Family::Oras));
        prop_assert_eq!(with, without);
    }
}

#[test]
fn a_layout_by_hand_refuses_what_a_plan_refuses() {
    let path = |text: &str| text.parse().unwrap();
    let mut builder = Layout::builder();
    builder.raw(path("a"), digest("x"), 1, false, "one").unwrap();
    builder.raw(path("a"), digest("x"), 1, true, "one again").unwrap();
    assert!(builder.raw(path("a"), digest("y"), 1, false, "two").is_err());
    assert!(builder.raw(path("b"), digest("x"), 2, false, "a liar").is_err());
    builder.raw(path("a/b"), digest("y"), 1, false, "inside").unwrap();
    assert!(builder.finish().is_err());
    assert!(Layout::builder().is_empty());
}
