//! Helm charts (helm/helm pkg/registry/constants.go): the chart is the file that `helm pull` would write.

use serde::Deserialize;

use super::{
    ConfigUse, Content, Context, Family, Member, Members, Rules, TarPolicy, TarShape, config, member,
};
use crate::attributes::TarMode;
use crate::descriptor::Descriptor;
use crate::layout::LayoutError;
use crate::naming;
use crate::relative_path::RelativePath;

const CONFIG: &str = "application/vnd.cncf.helm.config.";
const CHART: &str = "application/vnd.cncf.helm.chart.content.";
const LEGACY_CHART: &str = "application/tar+gzip";
const PROVENANCE: &str = "application/vnd.cncf.helm.chart.provenance.";

pub(super) const RULES: Rules = Rules {
    family: Family::Helm,
    claims: |manifest| manifest.config.parsed_type().essence().starts_with(CONFIG),
    config: ConfigUse::Names,
    tar: TarMode::File,
    tars: TarPolicy::FILES,
    members,
};

/// The config is the chart's metadata (helm/helm pkg/chart/v2/metadata.go).
#[derive(Deserialize)]
struct Metadata {
    name: String,
    version: String,
}

fn members(context: &Context<'_>) -> Result<Members, LayoutError> {
    let metadata: Metadata = config::read(context, Family::Helm)?;
    if [&metadata.name, &metadata.version].iter().any(|part| part.contains('/')) {
        let why = "the name or the version of the chart has a slash, so they are no file name".to_owned();
        return Err(LayoutError::Config { family: Family::Helm, why });
    }
    // helm/helm pkg/downloader/chart_downloader.go joins them like this, and adds `.prov`.
    let chart = format!("{}-{}.tgz", metadata.name, metadata.version);
    member::each(context, |number, layer| member(number, layer, &chart))
}

fn member(number: usize, layer: &Descriptor, chart: &str) -> Result<Option<Member>, LayoutError> {
    let named = |name: &str| {
        RelativePath::parse(name).map_err(|source| LayoutError::Named {
            layer: naming::label(number, layer),
            by: "the name and the version of the chart",
            source,
        })
    };
    let media_type = layer.parsed_type();
    if media_type.essence().starts_with(CHART) || media_type.essence() == LEGACY_CHART {
        let mut member = Member::called(number, layer, named(chart)?);
        member.content = Content::Tar(TarShape::plain(media_type.codec()));
        Ok(Some(member))
    } else if media_type.essence().starts_with(PROVENANCE) {
        Ok(Some(Member::called(number, layer, named(&format!("{chart}.prov"))?)))
    } else {
        Member::of_any(number, layer)
    }
}
