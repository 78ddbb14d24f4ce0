//! `stowage config`: what a configuration file may say.

use stowage_controller::ControllerConfiguration;

use crate::Failure;
use crate::cli::{ConfigArgs, ConfigCommand, ConfigKind};

pub(crate) fn run(args: &ConfigArgs) -> Result<(), Failure> {
    let ConfigCommand::Schema { whose } = args.command;
    let schema = match whose {
        ConfigKind::Node => stowage_node::node_schema(),
        ConfigKind::Controller => ControllerConfiguration::schema(),
    };
    say!("{}", serde_json::to_string_pretty(&schema)?);
    Ok(())
}
