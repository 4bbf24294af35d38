"""Which characters people and machines take for each other: on keys, on paper, by ear, by shape."""

from functools import cache, lru_cache
from math import hypot

__all__ = ["KEYBOARD", "OCR", "SHAPES", "homophones"]

_KEYS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))


def _neighbours() -> dict[str, str]:
    at = {
        key: (row, column + offset)
        for row, (keys, offset) in enumerate(_KEYS)
        for column, key in enumerate(keys)
    }
    return {
        key: "".join(
            other
            for other, (other_row, other_x) in at.items()
            if other != key and hypot(row - other_row, x - other_x) < 1.3
        )
        for key, (row, x) in at.items()
    }


KEYBOARD = _neighbours()
"""Letter -> the letters around it on a QWERTY keyboard."""

OCR = {
    "B": ("8", "R"),
    "D": ("O", "0"),
    "E": ("F",),
    "G": ("C", "6"),
    "I": ("l", "1"),
    "O": ("0", "Q"),
    "Q": ("O",),
    "S": ("5",),
    "U": ("V",),
    "Z": ("2",),
    "a": ("o",),
    "b": ("6", "h"),
    "c": ("e",),
    "d": ("cl",),
    "e": ("c",),
    "f": ("t",),
    "g": ("9", "q"),
    "h": ("b", "li"),
    "i": ("l", "1", "j"),
    "l": ("1", "I", "i"),
    "m": ("rn", "nn"),
    "n": ("ri",),
    "o": ("0",),
    "q": ("g", "9"),
    "r": ("i",),
    "s": ("5",),
    "t": ("f", "l"),
    "u": ("v",),
    "v": ("u",),
    "w": ("vv",),
    "y": ("v",),
    "z": ("2",),
}
"""Letter -> what text recognition reads in its place."""

_SHAPE_GROUPS = """
己已巳 人入八 土士 日曰目 大太犬夫天 千干于 刀刃力 未末 今令 买卖 贝见 账帐胀 微徽 拨拔 候侯
即既 密蜜 象像 暮幕墓慕 戊戌戍 析折拆 冒昌 晴睛 请清情 检捡俭险 货贷 资货 贸贺 银很 钱线浅 栽裁载
陈阵 休体 住往 侍待持 伸仲 问间闻 困因囚 园圆团 代伐 市布 网冈 技枝 抢枪 推堆 措借错惜 准淮
冷冶治 处外 付什仕 快块决 吗妈码 乌鸟鸣 乒乓 辨辩辫 竟竞 徒徙陡 洒酒 他她地池 根很跟恨 级极
板版扳 防妨访坊 编遍偏骗 客容 各名 合含 直真 具且 免兔 旦但 百白自 来米末 申由甲 申电 用甩 午牛
主王玉 开井 无元 只叫 历厉 广厂 户尸 斤斥 爪瓜 九丸 勺匀 勿匆 亨享 拾抬 拖施 挂桂 换唤 提堤 按接
报服 限跟 退腿 运远 近返 送迷 过边 订计钉 记纪 没设 话活 读续 该刻 谁准 课棵 打扣 放效 到致 扬杨
班斑 埋理 查香 者考 肯背 胆但 恼脑 般船 欧殴 江汇 沉沈 汽气 抽油 派脉 消削 涨张 源原 温湿 瞒满
抄炒 烧绕 热熟 疑凝 登凳 盘盆 益盖 相想 坡破 确角 秒抄 租组 稿搞 穴空 等筹 份粉 系糸 红江 约的
低底 终络 充统 断继 激缴 美关 舍舌 管菅 蓝监 补朴 裤库 规现 论沦 证征 评坪 诉拆 详祥 语悟 误娱
责贵 赔陪 迭跌 路赂 传转 轻经 辆俩 连莲 迟尺 速束 童重 量里 全金 锁琐 闭闲 降隆 除徐 随髓 雷雪
需儒 韭非 顶项 须顺 风凤 凡几 又叉 万方 北比 它宅 乎平 史吏 央夹 件伴 任伍 伟纬 使便 侧测 值植
停亭 偿尝 兑说 列刊 利刮 刷制 加如 助肋 励厉 区匹 卷券 句勾 台古 吸级 员贝 哪那 喝渴 固回 均匀
复夏 够狗 奖浆 始治 季委 字宇 完宗 审宙 密宓 寄奇 巨臣 币巾 帮绑 应庆 店居 庄压 延廷 式试 弄弃
归旧 录绿 径经 忘忙 怎作 怒努 息思 惊掠 戒戎 找我 抱报 拉垃 择泽 损捐 挽晚 探深 描瞄 故敌 效郊
旱早 明朋 昨咋 是定 暗音 期朝 本木 杯坏 极圾 标桥 样详 桌卓 档挡 梅海 棉绵 榜傍 模摸 横黄 欠次
止上 每毎 水永 汗汁 沙抄 河何 油抽 洋样 浪狼 涉步 清请 渡度 湖胡 漏满 灯打 炮跑 烟咽 燥躁
"""


def _shape_alikes() -> dict[str, str]:
    alikes: dict[str, str] = {}
    for group in _SHAPE_GROUPS.split():
        for character in group:
            others = (alikes.get(character, "") + group).replace(character, "")
            alikes[character] = "".join(dict.fromkeys(others))
    return alikes


SHAPES = _shape_alikes()
"""Chinese character -> characters that look like it."""


@lru_cache(maxsize=65536)
def homophones(word: str) -> tuple[str, ...]:
    """For each character of a Chinese word, the common ones that sound like it there.

    Without tones, as they are typed: the wrong choice from an input method's list. The reading
    of a character follows its word.
    """
    by_reading = _by_reading()
    readings = _read(word)
    if len(readings) != len(word):  # characters without a known reading come as one
        readings = [_read(character)[0] for character in word]
    return tuple(
        by_reading.get(reading, "").replace(character, "")
        for character, reading in zip(word, readings, strict=True)
    )


def _read(word: str) -> list[str]:
    from pypinyin import lazy_pinyin  # its dictionaries take half a second

    return lazy_pinyin(word)


@cache
def _by_reading() -> dict[str, str]:
    """Reading -> the common characters that have it first: level 1 of GB 2312, rows 16 to 55."""
    cells = [(row, cell) for row in range(16, 56) for cell in range(1, 95)]
    common = bytes(byte + 0xA0 for place in cells[:3755] for byte in place).decode("gb2312")
    readings = [_read(character)[0] for character in common]
    groups: dict[str, str] = {}
    for character, reading in zip(common, readings, strict=True):
        groups[reading] = groups.get(reading, "") + character
    return groups
