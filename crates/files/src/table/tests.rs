//! Files as people write them are either read, or refused with a place and a reason.

use std::io::Write;
use std::path::PathBuf;

use expect_test::{Expect, expect};

use super::*;

fn written(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// The detected format and the rows in the columns `a` and `b`, or the error.
fn read_as(name: &str, bytes: &[u8], form: &Form) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = written(&dir, name, bytes);
    let shown = (|| {
        let mut table = Table::open(&path, form, &["a".into(), "b".into()])?;
        let [a, b] = table.needed(["a", "b"])?;
        let found = table.found().clone();
        let mut words = vec![found.packed, found.encoding, found.separator.map(|it| it.to_string()), found.sheet];
        words.push(Some(format!("line {}", found.header_line)));
        let mut shown = words.into_iter().flatten().collect::<Vec<_>>().join(", ");
        while table.next_row()? {
            shown += &format!("\n{}: {:?} {:?}", table.line(), table.text(a), table.text(b));
        }
        Ok::<_, FileError>(shown)
    })();
    shown.unwrap_or_else(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn check(bytes: &[u8], expected: Expect) {
    expected.assert_eq(&read_as("t.csv", bytes, &Form::default()));
}

fn utf16(text: &str, is_big: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if is_big { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

#[test]
fn a_separator_is_found_where_it_is_certain() {
    check(
        b"a,b\n1,2\n",
        expect![[r#"
        utf-8, comma, line 1
        2: "1" "2""#]],
    );
    check(
        b"a;b;c\n1;2;3,5\n",
        expect![[r#"
        utf-8, semicolon, line 1
        2: "1" "2""#]],
    );
    check(
        b"a\tb\n1\t2\n",
        expect![[r#"
        utf-8, tab, line 1
        2: "1" "2""#]],
    );
    check(
        b"a|b\r\n1|2\r\n",
        expect![[r#"
        utf-8, bar, line 1
        2: "1" "2""#]],
    );
    check(
        b"sep=;\na;b\n1;2\n",
        expect![[r#"
        utf-8, semicolon, line 2
        3: "1" "2""#]],
    );
    check(
        b"x;y,z\n1;2,3\n",
        expect!["t.csv, line 1: may be separated by comma or semicolon; pick one with --separator comma"],
    );
    check(b"a:b\n1:2\n", expect!["t.csv, line 1: no columns `a`, `b`; the columns are a:b"]);
    let colon = Form { separator: Some(Separator(b':')), ..Form::default() };
    expect![[r#"
        utf-8, :, line 1
        2: "1" "2""#]]
    .assert_eq(&read_as("t", b"a:b\n1:2\n", &colon));
}

#[test]
fn a_header_is_found_by_its_columns() {
    check(
        b"Results of May\n\nprinted;on;Monday\nA;B\n1;2\n",
        expect![[r#"
        utf-8, semicolon, line 4
        5: "1" "2""#]],
    );
    let third = Form { header_line: Some(3), ..Form::default() };
    expect![[r#"
        utf-8, comma, line 3
        4: "1" "2""#]]
    .assert_eq(&read_as("t", b"a,b\nx,y\na,b\n1,2\n", &third));
}

#[test]
fn encodings_are_detected_from_marks_or_stated_by_the_user() {
    let marked = |mark: &[u8], text: Vec<u8>| [mark, &text].concat();
    check(
        &marked(b"\xef\xbb\xbf", "\"a\",\"b\"\né,2\n".into()),
        expect![[r#"
        utf-8, comma, line 1
        2: "é" "2""#]],
    );
    check(
        &marked(b"\xff\xfe", utf16("a,b\né,🗳\n", false)),
        expect![[r#"
        utf-16le, comma, line 1
        2: "é" "🗳""#]],
    );
    check(
        &marked(b"\xfe\xff", utf16("a,b\né,2\n", true)),
        expect![[r#"
        utf-16be, comma, line 1
        2: "é" "2""#]],
    );
    check(
        &utf16("a,b\n1,2\n", false),
        expect!["t.csv, line 1: looks like UTF-16 without a byte order mark; if it is, use --encoding utf-16le"],
    );
    check(
        b"a,b\n1,x\xe9\x80y\n",
        expect![
            "t.csv, line 2, column `b`: the byte 0xe9 is not UTF-8; if the file is in a Western European encoding, use --encoding windows-1252 (or latin-1)"
        ],
    );
    let said = |encoding| Form { encoding: Some(encoding), ..Form::default() };
    expect![[r#"
        windows-1252, comma, line 1
        2: "é" "€""#]]
    .assert_eq(&read_as("t", b"a,b\n\xe9,\x80\n", &said(Encoding::Windows1252)));
    expect![[r#"
        latin-1, comma, line 1
        2: "é" "ü""#]]
    .assert_eq(&read_as("t", b"a,b\n\xe9,\xfc\n", &said(Encoding::Latin1)));
    expect!["t, line 1: is valid UTF-8, but --encoding says latin-1; omit the option"].assert_eq(&read_as(
        "t",
        "a,b\né,1\n".as_bytes(),
        &said(Encoding::Latin1),
    ));
    check(b"a,b\n1,\0\n", expect!["t.csv, line 1: is not text; expected CSV (compressed or not) or a spreadsheet"]);
}

#[test]
fn a_long_text_is_decoded_as_a_short_one() {
    let rows: String = (0..200_000).map(|row| format!("é{row},ü\n")).collect();
    let text = format!("a,b\n{rows}");
    let latin: Vec<u8> = text.chars().map(|letter| letter as u32 as u8).collect();
    let form = |encoding| Form { encoding, ..Form::default() };
    let plain = read_as("t", text.as_bytes(), &form(None));
    assert_eq!(plain.lines().count(), 200_001);
    let rows = |shown: String| shown.split_once('\n').unwrap().1.to_owned();
    let plain = rows(plain);
    assert_eq!(rows(read_as("t", &latin, &form(Some(Encoding::Latin1)))), plain);
    assert_eq!(rows(read_as("t", &latin, &form(Some(Encoding::Windows1252)))), plain);
    assert_eq!(rows(read_as("t", &[b"\xff\xfe".to_vec(), utf16(&text, false)].concat(), &form(None))), plain);
}

#[test]
fn a_quote_closes_where_it_should_or_is_refused() {
    check(
        b"a,b,c\n\"1, x\",\"say \"\"so\"\"\",3\nD\"oe\",4,5\n",
        expect![[r#"
        utf-8, comma, line 1
        2: "1, x" "say \"so\""
        3: "D\"oe\"" "4""#]],
    );
    let swallows = "a quote opens here and is never closed, or closes lines later, across what look like separate rows; remove it, or close it on its line";
    for (text, place) in [
        ("a,b,c\n1,2,3\n1,2,\"3\n1,2,3\n1,2,3\n", "line 3, column `c`"),
        ("a,b,c\n\"1,2,3\n1,2,3\n1\",2,3\n", "line 2, column `a`"),
        ("a,b,c\n1,\"2,3\n1,\"2\",3\n", "line 2, column `b`"),
        ("a,b,c\n1,2,\"3\n1,2,3\n\"1\",2,3\n", "line 2, column `c`"),
    ] {
        assert_eq!(read_as("t", text.as_bytes(), &Form::default()), format!("t, {place}: {swallows}"));
    }
    check(
        b"a,b,c\n1,2,\"3",
        expect![
            "t.csv, line 2, column `c`: a quote opens here and is never closed; remove it, or close it on its line"
        ],
    );
    check(
        b"a,b\n\"Spike\" Lee,2\n",
        expect![
            "t.csv, line 2, column `a`: begins with a quote that closes before the end of the field; double each inner quote, or remove the first"
        ],
    );
    check(
        b"a,b\n1, \"2\"\n",
        expect!["t.csv, line 2, column `b`: has a space before its quote; remove the space, or use --no-quotes"],
    );
    let plain = Form { no_quotes: true, ..Form::default() };
    expect![[r#"
        utf-8, comma, line 1
        2: "\"Spike\" Lee" "2""#]]
    .assert_eq(&read_as("t", b"a,b\n\"Spike\" Lee,2\n", &plain));
}

#[test]
fn a_line_break_is_refused_where_a_column_is_used() {
    check(
        b"a,b,note\n1,2,\"two\nlines\"\n3,4,\n",
        expect![[r#"
        utf-8, comma, line 1
        2: "1" "2"
        4: "3" "4""#]],
    );
    check(
        b"a,b,note\n1,\"2\n2\",x\n",
        expect![
            "t.csv, line 2, column `b`: has a line break within the field; expected one line (is a quote missing or too many?)"
        ],
    );
    check(
        b"note,a,b\n\"x\ny\",1,\"2\nz\"\n",
        expect![
            "t.csv, line 3, column `b`: has a line break within the field; expected one line (is a quote missing or too many?)"
        ],
    );
}

#[test]
fn rows_are_as_long_as_the_header_apart_from_empty_cells() {
    check(
        b"a,b\n1,2\n,\n\n,,,\n3,4,,\n",
        expect![[r#"
        utf-8, comma, line 1
        2: "1" "2"
        6: "3" "4""#]],
    );
    check(
        b"a,b,,\n1,2\n3,4,,\n",
        expect![[r#"
        utf-8, comma, line 1
        2: "1" "2"
        3: "3" "4""#]],
    );
    check(b"a,b\n1,2,3\n", expect!["t.csv, line 2: found 3 fields, expected 2 as in the header"]);
    check(
        b"a,b\n1;2\n",
        expect!["t.csv, line 2: found 1 fields, expected 2 as in the header; does this line use another separator?"],
    );
    check(
        b"a,b\r1,2\r3,4",
        expect![[r#"
        utf-8, comma, line 1
        2: "1" "2"
        3: "3" "4""#]],
    );
}

#[test]
fn columns_are_found_by_name_and_all_missing_ones_reported_at_once() {
    check(
        b"A ,B\n1,2\n",
        expect![[r#"
        utf-8, comma, line 1
        2: "1" "2""#]],
    );
    check(
        b"a,b,B\n1,2,3\n",
        expect![
            "t.csv, line 1: the column `b` occurs twice: `b` is column 2, `B` is column 3; name the right one by its place, as #3"
        ],
    );
    check(b"x,y\n1,2\n", expect!["t.csv, line 1: no columns `a`, `b`; the columns are x, y"]);
    check(b"", expect!["t.csv, line 1: is empty; expected a header with the columns `a`, `b`"]);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// Two readers of a pipe would each get only some of the rows.
#[test]
fn a_pipe_is_refused() {
    let error = Table::open(Path::new("/dev/null"), &Form::default(), &[]).err().unwrap().to_string();
    assert_eq!(error, "/dev/null: is a pipe or a device; expected a file, since it is read more than once");
}

#[test]
fn compression_is_detected_from_the_first_bytes() {
    let text = b"a,b\n1,2\n";
    expect![[r#"
        gzip, utf-8, comma, line 1
        2: "1" "2""#]]
    .assert_eq(&read_as("t.csv", &gzip(text), &Form::default()));
    let zipped = zip_of(&[("folder/t.csv", text)]);
    expect![[r#"
        zip, utf-8, comma, line 1
        2: "1" "2""#]]
    .assert_eq(&read_as("t.csv", &zipped, &Form::default()));
    expect!["t.zip: is a zip of 2 files; expected one, so unpack the right one: a.csv, b.csv"].assert_eq(&read_as(
        "t.zip",
        &zip_of(&[("a.csv", text), ("b.csv", text)]),
        &Form::default(),
    ));
    // The checksum is in the directory at the end of the archive.
    let mut damaged = zipped;
    let list = damaged.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    damaged[list + 16] ^= 1;
    expect!["t.csv: is a damaged zip: the checksum does not match"].assert_eq(&read_as(
        "t.csv",
        &damaged,
        &Form::default(),
    ));
    let cut = gzip(text);
    let error = read_as("t.csv", &cut[..cut.len() - 6], &Form::default());
    assert!(error.starts_with("cannot read t.csv: "), "{error}");
    expect!["t.csv: is a PDF, not a table; the publisher may offer the same data as CSV or a spreadsheet"]
        .assert_eq(&read_as("t.csv", b"%PDF-1.4 and so on", &Form::default()));
}

/// A minimal workbook.
fn xlsx(sheets: &[(&str, &str)]) -> Vec<u8> {
    let names = sheets
        .iter()
        .enumerate()
        .map(|(at, (name, _))| format!("<sheet name=\"{name}\" sheetId=\"{0}\" r:id=\"r{0}\"/>", at + 1));
    let workbook = format!(
        "<workbook xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets>{}</sheets></workbook>",
        names.collect::<String>()
    );
    let links = (1..=sheets.len()).map(|at| format!("<Relationship Id=\"r{at}\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" Target=\"worksheets/sheet{at}.xml\"/>"));
    let links = format!(
        "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\">{}</Relationships>",
        links.collect::<String>()
    );
    let root = "<Relationships xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"r1\" Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" Target=\"xl/workbook.xml\"/></Relationships>";
    let mut files = vec![
        ("_rels/.rels".to_owned(), root.to_owned()),
        ("xl/workbook.xml".to_owned(), workbook),
        ("xl/_rels/workbook.xml.rels".to_owned(), links),
    ];
    for (at, (_, rows)) in sheets.iter().enumerate() {
        let sheet = format!(
            "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>{rows}</sheetData></worksheet>"
        );
        files.push((format!("xl/worksheets/sheet{}.xml", at + 1), sheet));
    }
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (name.as_str(), text.as_bytes())).collect();
    zip_of(&files)
}

const TITLE: &str = "<row r=\"1\"><c r=\"A1\" t=\"inlineStr\"><is><t>Results</t></is></c></row>";
const HEAD: &str = "<row r=\"3\"><c r=\"A3\" t=\"inlineStr\"><is><t>a</t></is></c><c r=\"B3\" t=\"inlineStr\"><is><t>b</t></is></c></row>";

#[test]
fn a_spreadsheet_is_a_table_too() {
    let row = "<row r=\"4\"><c r=\"A4\"><v>346</v></c><c r=\"B4\"><v>1.5</v></c></row>";
    let book = xlsx(&[("Votes", &format!("{TITLE}{HEAD}{row}")), ("Empty", "")]);
    expect![[r#"
        xlsx, Votes, line 3
        4: "346" "1.5""#]]
    .assert_eq(&read_as("t", &book, &Form::default()));
    let two = xlsx(&[("One", &format!("{HEAD}{row}")), ("Two", HEAD)]);
    expect!["t: has several sheets; pick one with --sheet 'One': One, Two"].assert_eq(&read_as(
        "t",
        &two,
        &Form::default(),
    ));
    let said = Form { sheet: Some("One".into()), ..Form::default() };
    expect![[r#"
        xlsx, One, line 3
        4: "346" "1.5""#]]
    .assert_eq(&read_as("t", &two, &said));
    let error = "<row r=\"4\"><c r=\"A4\" t=\"e\"><v>#REF!</v></c><c r=\"B4\"><v>1</v></c></row>";
    expect!["t, line 4, column `a`: is an error in the spreadsheet; expected a text or a number"].assert_eq(&read_as(
        "t",
        &xlsx(&[("One", &format!("{HEAD}{error}"))]),
        &Form::default(),
    ));
}

#[test]
fn an_open_document_is_a_table_too() {
    let cells = |texts: [&str; 2]| {
        let cell =
            |text| format!("<table:table-cell office:value-type=\"string\"><text:p>{text}</text:p></table:table-cell>");
        format!("<table:table-row>{}{}</table:table-row>", cell(texts[0]), cell(texts[1]))
    };
    let content = format!(
        "<office:document-content xmlns:office=\"urn:oasis:names:tc:opendocument:xmlns:office:1.0\" xmlns:table=\"urn:oasis:names:tc:opendocument:xmlns:table:1.0\" xmlns:text=\"urn:oasis:names:tc:opendocument:xmlns:text:1.0\"><office:body><office:spreadsheet><table:table table:name=\"Votes\">{}{}</table:table></office:spreadsheet></office:body></office:document-content>",
        cells(["a", "b"]),
        cells(["Ada", "7"])
    );
    let book = zip_of(&[
        ("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"),
        ("content.xml", content.as_bytes()),
        ("META-INF/manifest.xml", b"<manifest/>"),
    ]);
    expect![[r#"
        ods, Votes, line 1
        2: "Ada" "7""#]]
    .assert_eq(&read_as("t.csv", &book, &Form::default()));
}

/// An independent reader of quoted fields; it fails wherever ours must.
fn plain(text: &str) -> Option<Vec<Vec<String>>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(false).from_reader(text.as_bytes());
    reader.records().map(|row| row.ok().map(|row| row.iter().map(|field| field.trim().to_owned()).collect())).collect()
}

/// Whatever byte, quote or line is damaged, the file is either refused or read as an independent reader reads it.
#[test]
fn a_damaged_file_is_refused_or_read_verbatim() {
    let seed = std::env::var("SCRUTIN_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rows = vec!["a,b,note".to_owned()];
    for row in 0..40 {
        let note = ["", "plain", "\"with, comma\"", "\"a \"\"word\"\"\"", "5'8\" tall"][random.usize(0..5)];
        rows.push(format!("\"Name {row}\",{},{note}", random.u32(0..1000)));
    }
    let whole = rows.join("\n") + "\n";
    let (mut read, mut refused) = (0, 0);
    let files = files_to_damage(3_000);
    for _ in 0..files {
        let mut text = whole.clone().into_bytes();
        let at = random.usize(0..text.len());
        match random.u8(0..5) {
            0 => text[at] = random.u8(32..127),
            1 => text.insert(at, b'"'),
            2 => drop(text.remove(at)),
            3 => text.insert(at, b"\n,"[random.usize(0..2)]),
            _ => text.truncate(at),
        }
        let text = String::from_utf8(text).unwrap();
        let ours = read_as("t", text.as_bytes(), &Form::default());
        if !ours.starts_with("utf-8") {
            refused += 1;
            continue;
        }
        read += 1;
        // A line may break within a note, since that column is not used.
        let lines = text.lines().filter(|line| !line.chars().all(|letter| letter == ',')).count();
        assert!((lines - 1..=lines).contains(&ours.lines().count()), "rows are lost or doubled:\n{text}\n{ours}");
        if let Some(plain) = plain(&text) {
            let shown: Vec<String> =
                ours.lines().skip(1).map(|row| row.split_once(": ").unwrap().1.to_owned()).collect();
            let plain: Vec<String> = plain[1..].iter().map(|row| format!("{:?} {:?}", row[0], row[1])).collect();
            assert_eq!(shown, plain, "{text}");
        }
    }
    assert!(read > files / 10 && refused > files / 10, "{read} {refused}");
}

/// `SCRUTIN_FUZZ_FILES`, or a number small enough for everyday runs.
fn files_to_damage(few: usize) -> usize {
    std::env::var("SCRUTIN_FUZZ_FILES").map_or(few, |text| text.parse().expect("a number of files"))
}
