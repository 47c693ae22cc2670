"""In which code page names were written that are no UTF-8, by what they would read as."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

# Of packers that do not write UTF-8: those of DOS and of Windows, by what they are for.
_LATIN = ("cp437", "cp850", "cp1252", "cp852", "cp1250")
_CYRILLIC = ("cp866", "cp1251")
_EASTERN = ("cp932", "gbk", "cp950", "cp949")
_SCRIPTS = {
    "cp932": "932, Japanese",
    "gbk": "936, simplified Chinese",
    "cp950": "950, traditional Chinese",
    "cp949": "949, Korean",
}
_FREQUENT = frozenset("оеаинтсрвлкОЕАИНТСРВЛК")  # seven of ten letters of Russian
_FREQUENT_ACCENTS = frozenset("äöüßÄÖÜéèêëàâçîïôûÉñáíóúãõåæøÅØłąęśżźćńŁŚŻčšžřýůěČŠŽőű")
# What text and the names of classes are made of most; bytes of another language hardly give them.
_FREQUENT_HANZI = frozenset(
    "的一是不了在人有我他这這个個们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于着下自"
    "之年过過发發后後作里用道行所然家种種事成方多经經去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些"
    "主样樣理心本前开開但因只从從想实實日者意无無力它长長把机機十民第公已工使情明性知全三又关關点點正业業外将將两"
    "兩高间間由问問很最重并物手应應向头頭文体體相见見利二等产產新制身果加西月话話合回特代内內信表化老给給世位次度"
    "门門常先海通教原东東提立及比员員水名真处處走各入几口条條平系气氣活打女变變四总總电電数數安少反目太量再感建做"
    "接场場件计計管期市直山金指男白红紅黄黃蓝藍绿綠黑色花草树樹木叶葉猫貓狗犬鸟鳥马馬牛羊鱼魚虎狮獅象猴熊兔鼠蛇"
    "龙龍鸡雞鸭鴨猪豬虫蟲蝴蝶蜂车車船飞飛图圖片像照类類测測试試训訓练練验驗证證集常异異阳陽阴陰缺陷良坏壞病肺脑腦"
    "骨皮瓶纸紙塑料布玻璃衣鞋包手机桌椅房屋路桥橋火石土田米麦麥菜豆瓜苹蘋橙蕉桃梨葡萄早晚春夏秋冬风風雨雪云雲光"
)
_FREQUENT_SYLLABLES = frozenset(
    "가각간갈감강개거건걸검게겨격결경계고곡곤골공과관광괴교구국군굴권귀규균그근글금기길김까깨꼬꽃끼나난날남내너널네"
    "년노녹농뇌누눈뉴느는늘능니다단달담당대더데도독돌동두드든들등디따때또라락란람랑래량러럼레려력련렴령로록론료루류르"
    "를름리린림립마막만말망매머먼메면명모목몬몸무문물미민밀바박반발방배백버번벌범법벽변별병보복본봉부북분불붉브블비"
    "빈빛빨사산살삼상새색생서석선설섬성세셔소속손솔송쇄수숙순술스습승시식신실심싱씨아악안알암압앙애야약양어억언얼엄"
    "업없에여역연열염영예오옥온올옷와완왕외요용우운울원위유육윤율은을음응의이인일임입자작잔잠장재저적전절점정제조족존"
    "종좌주죽준줄중쥐즈증지직진질집짜째차착참창채처천철첫청체초촉총최추축출충치친침카커컵코콩크키타탁탄탈태터털테토통"
    "트특티파판팔패퍼페편평폐포폭표푸품풍프플피필하학한할함합항해행향허헌험현협형혜호혹홍화확환활황회효후흰"
)
# Lead bytes of what is in daily use, from and to, and the least byte behind them.
_DAILY = {
    "cp932": (0x88, 0x97, 0),
    "gbk": (0xB0, 0xD7, 0xA1),
    "cp950": (0xA4, 0xC6, 0),
    "cp949": (0xB0, 0xC8, 0xA1),
}
_DAILY_USE = 0.1  # beside one that is frequent
_LIKE_WORDS = 0.5  # of letters that are frequent; bytes of another language give hardly one of ten
_NO_CHANCE = 0.15  # so much less likely is no rival


def code_page(names: Sequence[bytes]) -> tuple[str, str]:
    """Return the code page in which names look most like words, and another that fits as well.

    The second is empty where none does.
    """
    fitting = {page: _likeness(names, page) for page in _LATIN if _fits(names, page)}
    latin = max(fitting, key=lambda page: fitting[page], default=None)
    likely = {page: _likeness(names, page) for page in _EASTERN if _fits(names, page)}
    if latin and (max(likely.values(), default=0) < _LIKE_WORDS or _beside_latin(names, likely)):
        same = (p for p in fitting if fitting[p] == fitting[latin] and _differ(names, p, latin))
        return latin, next(same, "")
    likely |= {page: _likeness(names, page) for page in _CYRILLIC if _fits(names, page)}
    if not likely:
        return "cp437", ""
    best, *runners_up = sorted(likely, key=lambda page: -likely[page])
    near = (p for p in runners_up if p in _EASTERN and likely[p] > likely[best] - _NO_CHANCE)
    return best, next(near, "")


def _differ(names: Sequence[bytes], page: str, second_page: str) -> bool:
    return any(name.decode(page) != name.decode(second_page) for name in names)


def page_name(page: str) -> str:
    """Return a code page's name in words, with its language where that was guessed, too."""
    return f"code page {_SCRIPTS.get(page, page.removeprefix('cp'))}"


def _likeness(names: Sequence[bytes], page: str) -> float:
    """Return which share of what is no ASCII in names is frequent in the code page's language.

    To that comes a little for what is at least among the first half of the page's own order, which
    its makers gave to what is in daily use.
    """
    letters = [c for c in b"".join(names).decode(page) if not c.isascii()]
    if page not in _EASTERN:
        common = _FREQUENT_ACCENTS if page in _LATIN else _FREQUENT
        share = sum(c in common for c in letters) / len(letters)
        # That bytes are words of Cyrillic letters at all says something, too.
        return share if page in _LATIN else (1 + 2 * share) / 3
    frequent = _FREQUENT_SYLLABLES if page == "cp949" else _FREQUENT_HANZI
    first, last, trail = _DAILY[page]
    points = 0.0
    for letter in letters:
        lead, *rest = letter.encode(page)
        kana = page == "cp932" and unicodedata.name(letter, "?").startswith(
            ("HIRAGANA", "KATAKANA")
        )
        points += 1 if letter in frequent or kana else 0
        points += _DAILY_USE * (first <= lead <= last and min(rest, default=0) >= trail)
    return points / len(letters)


def _beside_latin(names: Sequence[bytes], pages: Iterable[str]) -> bool:
    """Return whether plain letters touch others, as in words with accents alone."""
    page = next(iter(pages))
    return any(
        a.isalpha() and b.isalpha() and a.isascii() != b.isascii()
        for name in names
        for a, b in pairwise(name.decode(page))
    )


def _fits(names: Sequence[bytes], page: str) -> bool:
    """Return whether these are names of letters of one script in a code page."""
    for name in names:
        try:
            text = name.decode(page)
        except UnicodeDecodeError:
            return False
        letters = [c for c in text if not c.isascii()]
        scripts = {unicodedata.name(c, "?").split()[0] for c in letters}
        if not all(c.isalpha() for c in letters) or "HALFWIDTH" in scripts:
            return False
        if page in _LATIN and not (scripts <= {"LATIN"} and all(map(_is_word, text.split("/")))):
            return False
        if page in _CYRILLIC and any(a.islower() and b.isupper() for a, b in pairwise(text)):
            return False
        if page not in _LATIN and "LATIN" in scripts:
            return False
    return True


def _is_word(name: str) -> bool:
    """Return whether accented letters stand among plain ones, and no capital after a small one."""
    letters = [c for c in name.rpartition(".")[0] or name if c.isalpha()]
    odd = [c for c in letters if not c.isascii()]
    if len(odd) == len(letters) > 1:
        return False
    pairs = (pair for pair in pairwise(name) if not "".join(pair).isascii())
    return not any(a.islower() and b.isupper() for a, b in pairs)
