//! The user's settings in the form of Kafka's Java client, for programs that read the same topic with it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use scrutin_files::FileError;

use super::KafkaSettings;

impl KafkaSettings {
    /// The settings that a Java client needs to reach the same brokers, by Kafka's own names. Certificates and keys are
    /// inlined, so the settings work where the files do not exist. Performance settings are left out.
    ///
    /// # Errors
    ///
    /// Fails if a connection setting has no equivalent for a Java client, or if a file cannot be read.
    pub fn for_java(&self) -> Result<BTreeMap<String, String>, FileError> {
        let mut settings = BTreeMap::new();
        for (name, value) in &self.properties {
            let wrong = |what: &str| FileError::Whole { path: self.path.clone(), what: format!("`{name}` {what}") };
            let file = || {
                let path = PathBuf::from(value);
                std::fs::read_to_string(&path).map_err(|source| FileError::Unreadable { path, source })
            };
            let (java, value) = match name.as_str() {
                "security.protocol" => ("security.protocol", value.to_ascii_uppercase()),
                "sasl.mechanism" | "sasl.mechanisms" => ("sasl.mechanism", value.clone()),
                "sasl.username" => ("sasl.jaas.config", self.login().map_err(wrong)?),
                "sasl.password" => continue,
                "ssl.ca.location" => ("ssl.truststore.certificates", file()?),
                "ssl.ca.pem" => ("ssl.truststore.certificates", value.clone()),
                "ssl.certificate.location" => ("ssl.keystore.certificate.chain", file()?),
                "ssl.certificate.pem" => ("ssl.keystore.certificate.chain", value.clone()),
                "ssl.key.location" => ("ssl.keystore.key", file()?),
                "ssl.key.pem" => ("ssl.keystore.key", value.clone()),
                "ssl.key.password" => ("ssl.key.password", value.clone()),
                "ssl.endpoint.identification.algorithm" => {
                    ("ssl.endpoint.identification.algorithm", value.replace("none", ""))
                }
                _ if ["sasl.", "ssl.", "enable.ssl.", "enable.sasl."].iter().any(|part| name.starts_with(part)) => {
                    return Err(wrong(
                        "has no equivalent in the Java client with which Spark reads the topic; leave it out",
                    ));
                }
                _ => continue,
            };
            for kind in ["truststore", "keystore"] {
                if java.starts_with(&format!("ssl.{kind}.")) {
                    settings.insert(format!("ssl.{kind}.type"), "PEM".to_owned());
                }
            }
            settings.insert(java.to_owned(), value);
        }
        Ok(settings)
    }

    /// User and password as a JAAS configuration.
    fn login(&self) -> Result<String, &'static str> {
        let setting = |name: &str| self.properties.get(name).map_or("", String::as_str);
        let mechanism = [setting("sasl.mechanism"), setting("sasl.mechanisms")].concat();
        let module = match mechanism.as_str() {
            "PLAIN" => "plain.PlainLoginModule",
            _ if mechanism.starts_with("SCRAM-") => "scram.ScramLoginModule",
            _ => return Err("needs `sasl.mechanism` to be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 for Spark"),
        };
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""));
        let (user, password) = (quoted(setting("sasl.username")), quoted(setting("sasl.password")));
        Ok(format!("org.apache.kafka.common.security.{module} required username={user} password={password};"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn java(lines: &[(&str, &str)]) -> Result<BTreeMap<String, String>, String> {
        let properties = lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        KafkaSettings { path: "kafka.properties".into(), properties }.for_java().map_err(|error| error.to_string())
    }

    #[test]
    fn a_login_becomes_a_jaas_configuration() {
        let settings = java(&[
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.username", "scrutin"),
            ("sasl.password", r#"a"b\c"#),
            ("linger.ms", "20"),
        ])
        .unwrap();
        let login = r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="scrutin" password="a\"b\\c";"#;
        let expected =
            [("security.protocol", "SASL_SSL"), ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.jaas.config", login)];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    #[test]
    fn certificates_are_inlined() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "the authority").unwrap();
        let settings = java(&[("ssl.ca.location", path.to_str().unwrap()), ("ssl.key.pem", "the key")]).unwrap();
        let expected = [
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.certificates", "the authority"),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.key", "the key"),
        ];
        assert_eq!(settings, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(java(&[("ssl.ca.location", "/nowhere/ca.pem")]).unwrap_err().contains("cannot read /nowhere/ca.pem"));
    }

    #[test]
    fn a_setting_without_an_equivalent_is_refused() {
        for (name, value) in [
            ("ssl.keystore.location", "keys.p12"),
            ("enable.ssl.certificate.verification", "false"),
            ("sasl.username", "x"),
        ] {
            let said = java(&[(name, value)]).unwrap_err();
            assert!(said.starts_with(&format!("kafka.properties: `{name}` ")), "{said}");
        }
    }
}
