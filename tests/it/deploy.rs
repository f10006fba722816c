//! What `docker compose up` brings up: dashboards and alerts asked of a real count as Grafana asks them, and compose.yaml
//! held to its rules. No container is started.

mod alerts; // each alert is quiet while all is well, and fires when it is not
mod compose; // compose.yaml, and what it must not have
mod dashboards; // every query of every dashboard gives what its panel needs
mod drawing; // Grafana's own library makes of each answer what its panel draws
mod files; // the files by which Grafana is set up, and YAML
mod form; // the dashboards as they are written
mod french; // the dashboards in French are those in English
mod grafana; // a dashboard's queries as Grafana sends them
mod image; // what the images are built from
mod scripts; // the scripts of deploy/, with stand-ins for the programs that they call
mod start; // what Grafana is started with, and who is told of alerts

pub use dashboards::show_all_of;
