//! What `docker compose up` starts: the queries of dashboards and alerts run on a real count as Grafana runs them, and
//! compose.yaml is checked against its rules. No container is started.

mod alerts; // each alert is silent while all is well, and fires when it should
mod compose; // compose.yaml and what it must not contain
mod dashboards; // every query of every dashboard returns what its panel needs
mod drawing; // Grafana's own library can draw each answer in its panel
mod files; // Grafana's provisioning files, and YAML
mod form; // how the dashboards are written
mod french; // the French dashboards match the English ones
mod grafana; // runs a dashboard's queries as Grafana does
mod image; // what the images are built from
mod scripts; // the scripts of deploy/, with stubs for the programs they call
mod start; // how Grafana is started, and who receives alerts

pub use dashboards::show_all_of;
