//! Words that appear in place of a candidate's or a region's name but mean something else, in common languages.

use unicode_normalization::UnicodeNormalization;

/// The meaning of a word that is not a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Ballots without any mark, or with exhausted rankings.
    Blank,
    /// Spoilt ballots, including overvotes.
    Null,
    /// People who may vote.
    Registered,
    /// Registered voters who did not vote.
    Abstentions,
    /// A sum of other rows.
    Total,
}

const BLANK: &str = "undervote undervotes undervoted novote novotes noselection skipped blank blanks blankvote blankvotes \
    blankballot blankballots votesblank blanc blancs blanche voteblanc votesblancs bulletinsblancs enblanco blanco blancos \
    votoenblanco votosenblanco votosblancos bianca bianche schedebianche schedabianca embranco branco brancos \
    votosbrancos votobranco leer leere leerestimmzettel leereingelegt blanke blankestemmer blankastemmer blanka \
    blankaroster blankstemmen exhausted exhaustedballots exhaustedballot exhaustedvotes ballotsexhausted \
    exhaustedbyovervotes nontransferable inactive inactiveballots";

const NULL: &str = "overvote overvotes overvoted spoilt spoiled spoiltballots spoiledballots spoiltvotes spoiledvotes invalid \
    invalidvote invalidvotes invalidballots rejected rejectedballots rejectedvotes rejectedpapers informal informalvotes \
    null nullvotes nul nuls nulle nulles votesnuls bulletinsnuls nulo nulos votosnulos votonulo nulli nullas schedenulle \
    votinulli ungueltig ungueltige ungueltigestimmen ungultig ungultige ungultigestimmen ogiltiga ugyldige ugyldigestemmer \
    ongeldig ongeldigestemmen glosyniewazne niewazne void invalidwritein invalidwriteins rejectedwritein rejectedwriteins";

const REGISTERED: &str = "registered registeredvoters registeredelectors electorate electors inscrits electeursinscrits \
    wahlberechtigte stimmberechtigte censo padron electores electoresinscritos elettori elettoriiscritti eleitores \
    eleitoresinscritos kiesgerechtigden rostberattigade uprawnieni";

const ABSTENTIONS: &str =
    "abstention abstentions abstenciones abstencion abstencoes astenuti nichtwahler nichtwaehler didnotvote";

const TOTAL: &str = "total totals grandtotal totalvotes totalvotescast votescast totalballots totalballotscast ballotscast \
    ballots contesttotal contesttotals countytotal countytotals statetotal precincttotal totalvalidvotes validvotes valid \
    validvotestotal sum somme ensemble totaux totalgeneral exprimes suffragesexprimes votants gesamt insgesamt \
    gesamtergebnis summe gueltig gueltige gueltigestimmen gultig gultige gultigestimmen wahler waehler wahlende waehlende \
    totale totali votivalidi votanti suma sumatotal totalgenerale votosvalidos votostotales votantes totaldevotos totaal \
    turnout allcandidates allvotes allregions alldistricts statewide countywide citywide districtwide nationwide \
    bundesgebiet franceentiere";

/// A name's letters and digits, without accents and in lower case.
fn plain(name: &str) -> String {
    let letters = name.nfd().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase);
    letters.map(|letter| if letter == 'ł' { 'l' } else { letter }).collect::<String>().replace('ß', "ss")
}

fn is_among(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|other| other == word)
}

/// What the name means if it is not a candidate's.
pub fn of_choice(name: &str) -> Option<Word> {
    let word = plain(name);
    let lists = [
        (BLANK, Word::Blank),
        (NULL, Word::Null),
        (REGISTERED, Word::Registered),
        (ABSTENTIONS, Word::Abstentions),
        (TOTAL, Word::Total),
    ];
    lists.into_iter().find(|(list, _)| is_among(list, &word)).map(|(_, word)| word)
}

/// Whether a region's name means a sum of regions. Words that are also places (the Somme is a département) do not
/// count.
pub fn is_total_region(name: &str) -> bool {
    const NAMES: &str = "statewide countywide citywide nationwide districtwide bundesgebiet franceentiere gesamtergebnis \
        allregions alldistricts allprecincts allcounties";
    const PARTS: &str =
        "total totals subtotal subtotals totaux soustotal gesamt insgesamt summe zwischensumme totale totali totaal";
    let is_part = |part: &str| is_among(PARTS, &plain(part));
    is_among(NAMES, &plain(name)) || name.split(|letter: char| !letter.is_alphanumeric()).any(is_part)
}

/// A name without differences in case and spaces.
pub fn spelling(name: &str) -> String {
    name.nfkc().flat_map(char::to_lowercase).filter(|letter| !letter.is_whitespace()).collect()
}

/// A name in Unicode's composed form (NFC).
pub fn composed(name: &str) -> String {
    name.nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_recognised_in_common_languages_and_names_are_not() {
        for (name, word) in [
            ("Under Votes", Word::Blank),
            ("UNDERVOTES", Word::Blank),
            ("Votes blancs", Word::Blank),
            ("Blancos", Word::Blank),
            ("exhausted ballots", Word::Blank),
            ("over-votes", Word::Null),
            ("Ungültige Stimmen", Word::Null),
            ("Nuls", Word::Null),
            ("Registered Voters", Word::Registered),
            ("Exprimés", Word::Total),
            ("Ballots Cast", Word::Total),
        ] {
            assert_eq!(of_choice(name), Some(word), "{name}");
        }
        for name in ["Les Blank", "Write-in", "None of the above", "Anna Null-Total", "Total Recall", ""] {
            assert_eq!(of_choice(name), None, "{name}");
        }
        assert!(["TOTALS", "Carroll County Total", "Insgesamt", "Sous-total"].into_iter().all(is_total_region));
        assert!(!["Somme", "Totnes", "Totalville", "Valid", "Sum Valley"].into_iter().any(is_total_region));
    }
}
