"""Words that say what kind of private detail stands beside them, in the larger languages of pmem's conversations."""

from .text import Cue

BIRTH = Cue(
    "birth dob d.o.b i#was#born born: geburt geb. geboren naissance né#le née#le nacimiento nací#el naci#el nascita"
    " nato#il nata#il nascimento рожд народж 生年 出生 생년 जन्म ngày#sinh เกิด ميلاد לידה doğum",
    r"date of birth|birth ?date|\bdob\b|\bd\.o\.b|\bmy birthday|\bi was born|\bborn:|geburtsdatum|\bgeb\.|geboren am"
    r"|date de naissance|\bnée? le|fecha de nacimiento|\bnac[ií] el|data di nascita|\bnat[oa] il|data de nascimento"
    r"|дата рожд|дата народж|生年月日|出生日期|생년월일|जन्म ?तिथि|ngày sinh|วันเกิด"
    r"|تاريخ الميلاد|תאריך לידה|doğum tarihi",
)
PHONE = Cue(
    "phone fon call mobile cell whatsapp text fax ring reach sms handy móvil number nummer numér númer numero ruf appel"
    " llám llam chiam тел номер 電話 电话 전화 फोन هاتف טלפון โทร điện",
    r"\b(phone|mobile|cell|tel|telephone|whatsapp|fax|sms|handy|tel[eé]fono|téléphone|telefon|telefone|móvil|тел|телефон)\b"
    r"|\b(call|ring|text|reach) (me|us|him|her|them)\b|\bmy number\b"
    r"|\b(handy|mobil|telefon|ruf|meine )nummer\b|\bruf\w* mich\b|\bmon numéro\b|\bappelle[rz]?-moi\b|\bmi número\b"
    r"|\bll[aá]m[ae]me\b|\bmio numero\b|\bchiamami\b|\b(o )?meu número\b|\bмой номер\b"
    r"|電話|电话|전화|फोन|هاتف|טלפון|โทร|điện thoại",
)
ACCOUNT = Cue(
    "account acct a/c sort routing konto cuenta compte iban",
    r"\b(account|acct)\b.{0,12}\b(number|no|nr)\b|\ba/c\b|\bsort code|\brouting number|kontonummer|número de cuenta"
    r"|numéro de compte|\biban\b",
)
IDENTITY = Cue(
    "ssn social national nino aadha tax cpf dni nif personnummer identi fiscal ausweis",
    r"\bssn\b|social security|\bnational (id|insurance|identity)\b|\bnino\b|\baadhaa?r|\btax id|\bcpf\b|\bdni\b|\bnif\b"
    r"|personnummer|\bidentity (card|number)|\bid (card|number)|codice fiscale|personalausweis",
)
PASSPORT = Cue(
    "pass pasaporte паспорт 护照 旅券 パスポート 여권 جواز דרכון chiếu",
    r"passport|reisepass|passeport|pasaporte|passaporto|паспорт|护照|旅券|パスポート|여권|جواز|דרכון|hộ chiếu",
)
LICENCE = Cue(
    "licen führerschein permis patente",
    r"driv(er|ing)\W{0,2}s?\W{0,2}licen[cs]e|führerschein|permis de conduire|licencia de conduc|patente di guida",
)
PASSWORD = Cue(
    "passw pwd passcode login log#in contraseña mot#de#passe khẩu senha пароль 密码 パスワード 비밀번호 รหัส"
    " סיסמ كلمة पासवर्ड şifre",
    r"passw(or[dt]|d)|\bpwd\b|passcode|\blog ?in\b|contraseña|mot de passe|mật khẩu|\bsenha\b|пароль|密码|パスワード"
    r"|비밀번호|รหัสผ่าน|סיסמ|كلمة (ال)?(سر|مرور)|पासवर्ड|şifre",
)
HOME = Cue(
    "address live living moved ship deliver send mail adres dirección indirizzo",
    r"\baddress(?! of)|\b(live|lives|living) at\b|\bmoved to\b|\b(ship|deliver|delivery|send|mail)\w* .{0,20}\bto\b"
    r"|\badresse|dirección|indirizzo|\badres",
)
KEY = Cue("key token secret bearer", r"\bkeys?\b|\btokens?\b|\bsecrets?\b|\bbearer\b|_key\b|_token\b|_secret\b")
