//! Whole chains on the stand-ins for PBS, LSF and HTCondor, from `ovl build` to the overlays.

mod golden;
mod site;
mod trouble;
mod whole;
