//! `stowage crd`: the definitions that `kubectl apply` takes.

use crate::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    let yaml = stowage_controller::crd::yaml()?;
    say!("{}", yaml.trim_end());
    Ok(())
}
