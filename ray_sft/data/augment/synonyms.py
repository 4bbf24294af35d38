"""Words that may stand for each other in support, shopping, finance and everyday text.

Small lists made for this project. Words of a group share their form (number, tense) as well as
their sense, so a replacement leaves the grammar of most sentences alone. Words of many senses are
left out rather than guessed at, and so are Chinese words of one character: without a segmenter
they cannot be told from parts of other words.
"""

from functools import lru_cache

__all__ = ["CHINESE", "ENGLISH", "LONGEST_CHINESE", "synonyms_of"]

_ENGLISH_GROUPS = """
buy purchase; buys purchases; bought purchased; buying purchasing; refund reimbursement repayment;
refunds reimbursements repayments; refunded reimbursed repaid; parcel package shipment;
parcels packages shipments; delivery shipping dispatch; deliver ship send; delivers ships sends;
delivered shipped sent; delivering shipping sending; invoice bill; invoices bills; fee cost;
fees costs; charged billed; payment remittance; payments remittances; pay settle; paid settled;
transfer wire; transferred wired; account profile; accounts profiles; customer client shopper;
customers clients shoppers; shop store outlet; shops stores outlets; seller vendor merchant;
sellers vendors merchants; product item article; products items articles; goods merchandise wares;
discount reduction rebate; discounts reductions rebates; voucher coupon; vouchers coupons;
cheap inexpensive affordable; expensive pricey costly; price cost; prices costs;
broken damaged defective; faulty defective malfunctioning; fault defect flaw; faults defects flaws;
problem issue trouble; problems issues troubles; error mistake fault; errors mistakes faults;
wrong incorrect; wrongly incorrectly mistakenly; properly correctly; fix repair mend;
fixed repaired mended; fixing repairing mending; replace exchange swap; replaced exchanged swapped;
replacement exchange substitute; cancel annul revoke; cancelled annulled revoked;
canceled annulled revoked; cancellation annulment; help assist support; helped assisted supported;
helping assisting supporting; assistance help support; answer reply response;
answers replies responses; answered replied responded; question query enquiry;
questions queries enquiries; ask inquire enquire; asked inquired enquired;
asking inquiring enquiring; tell inform; told informed; explain clarify; explained clarified;
explanation clarification; information details particulars; message note; messages notes;
letter note; contact reach; contacted reached; phone telephone; mobile cellphone; speak talk;
speaking talking; spoke talked; complain grumble; complaint grievance; complaints grievances;
unhappy dissatisfied displeased; happy glad pleased; satisfied pleased; sad unhappy sorrowful;
angry furious annoyed; annoying irritating bothersome; upset distressed; sorry apologetic;
thanks cheers; grateful thankful; friendly amiable; rude impolite discourteous; polite courteous;
helpful useful; useless worthless; good great; excellent outstanding superb;
great terrific fantastic; amazing astonishing incredible; awesome fantastic terrific;
nice pleasant lovely; lovely delightful charming; perfect flawless ideal; bad poor awful;
terrible awful dreadful horrible; worst poorest; better superior; best finest; beautiful gorgeous;
ugly unattractive; quick fast rapid; quickly rapidly swiftly fast; quicker faster; slow sluggish;
slowly sluggishly; soon shortly; immediately instantly straightaway; instantly immediately;
urgent pressing; late delayed overdue; early premature; often frequently regularly;
frequently often; rarely seldom; sometimes occasionally; always constantly;
usually normally generally; recently lately; currently presently; finally eventually lastly;
suddenly abruptly unexpectedly; again anew; begin start commence; began started commenced;
beginning start outset; ended finished concluded; finished completed done; complete finish;
completed finished; stop halt cease; stopped halted ceased; continue proceed; continued proceeded;
waiting queuing; try attempt; tried attempted; trying attempting; want wish desire;
wanted wished desired; wants wishes; need require; needed required; needs requires;
use employ utilise; used employed utilised; using employing utilising; get obtain receive;
got obtained received; getting obtaining receiving; give provide supply; gave provided supplied;
given provided supplied; provide supply offer; provided supplied offered; show display present;
shows displays presents; showed displayed presented; showing displaying presenting;
saw noticed viewed; find locate discover; found located discovered; finding locating discovering;
search look hunt; searching looking hunting; lost missing; lose misplace; keep retain;
kept retained; choose select pick; chose selected picked; chosen selected picked;
choice selection option; choices selections options; change alter modify; changed altered modified;
changing altering modifying; change alteration modification; update refresh; updated refreshed;
check verify inspect; checked verified inspected; checking verifying inspecting; confirm verify;
confirmed verified; confirmation verification; approve authorise; approved authorised;
decline reject refuse; declined rejected refused; allow permit let; allowed permitted;
forbid prohibit ban; forbidden prohibited banned; access entry; password passcode;
passwords passcodes; identity identification; block freeze; blocked frozen; locked blocked;
theft robbery; fraud scam swindle; suspicious dubious questionable; safe secure; safely securely;
danger risk hazard; dangerous risky hazardous; cash money; money cash funds; funds money;
income earnings revenue; salaries wages; revenue sales turnover; profit gain earnings;
profits gains earnings; loss deficit; losses deficits; debt liability; debts liabilities;
savings deposits; withdrawal payout; withdrawals payouts; budget allowance;
insurance cover coverage; stock equity; stocks shares equities; investor shareholder;
investors shareholders; company firm business corporation; companies firms businesses corporations;
bank lender; banks lenders; market marketplace; markets marketplaces; rise climb increase;
rises climbs increases; rose climbed increased; rising climbing increasing; grow expand;
grew expanded; growing expanding; growth expansion; increase rise growth; increased raised;
fall drop decline; falls drops declines; fell dropped declined; falling dropping declining;
decrease drop reduction; decreased reduced lowered; reduce lower cut; reduced lowered cut;
soar surge skyrocket; soared surged skyrocketed; plunge tumble plummet; plunged tumbled plummeted;
strong robust solid; weak feeble soft; stable steady; volatile unstable turbulent;
forecast prediction projection; forecasts predictions projections; expect anticipate;
expected anticipated; expects anticipates; predict forecast; predicted forecast;
announce declare reveal; announced declared revealed; report statement; reports statements;
reported stated; yearly annual; daily everyday; contract agreement deal; contracts agreements deals;
deal bargain agreement; agree concur; agreed concurred; boss manager supervisor; manager supervisor;
employee worker; employees workers staff; staff personnel employees; job position; jobs positions;
meeting gathering; plan scheme; plans schemes; goal aim target; goals aims targets;
idea thought notion; ideas thoughts notions; thought believed reckoned; believe think;
understand comprehend grasp; understood comprehended grasped; remember recall recollect;
remembered recalled recollected; forget overlook; forgot overlooked; worry concern;
worried concerned anxious; sure certain; certainly surely definitely; maybe perhaps possibly;
probably likely presumably; really truly genuinely; very extremely highly;
extremely very exceedingly; quite fairly; completely entirely totally fully;
totally completely entirely; almost nearly; only merely; also additionally; however nevertheless;
therefore hence thus; although though; while whilst; whole entire; many numerous several;
several various; various different diverse; enough sufficient; additional extra further;
extra additional; big large huge; bigger larger; biggest largest; large big sizeable;
huge enormous gigantic; small little tiny; smaller tinier; long lengthy; modern contemporary;
easy simple effortless; easily effortlessly; simple easy straightforward; hard difficult tough;
complicated complex intricate; important significant crucial; main principal chief;
special particular; normal ordinary usual; strange odd weird; similar alike comparable;
different distinct; clear plain obvious; obvious evident apparent; true genuine;
fake counterfeit bogus; real actual genuine; empty vacant; full packed; clean spotless;
dirty filthy grubby; hot boiling; cold chilly; wet soaked; quiet silent; loud noisy; dark dim;
heavy weighty; comfortable cosy snug; quality grade; colour shade tint; color shade tint;
shirt blouse; trousers pants; shoes footwear; jacket coat; box carton crate; boxes cartons crates;
bottle flask; cup mug; sofa couch settee; laptop notebook; computer machine;
device gadget appliance; devices gadgets appliances; screen display; picture image photo;
pictures images photos; film movie; films movies; story tale; journey trip voyage;
trip journey excursion; holiday vacation; holidays vacations; hotel inn; hotels inns;
reservation booking; reservations bookings; booked reserved; ticket pass; car automobile vehicle;
cars automobiles vehicles; road street; town city; house home; room chamber; food meal; meal dinner;
tasty delicious; delicious tasty yummy; restaurant diner eatery; doctor physician;
doctors physicians; illness disease sickness; sick ill unwell; medicine medication drug;
medicines medications drugs; treatment therapy; treatments therapies; symptom sign; symptoms signs;
pain ache; child kid youngster; children kids youngsters; man gentleman; woman lady;
people folks persons; friend pal buddy; friends pals buddies; family relatives; stayed remained;
leave depart; left departed; bring fetch; brought fetched; open unlock; close shut; closed shut;
connect link; connected linked; remove delete erase; removed deleted erased; add include;
added included; join enrol; subscribe enrol; subscription membership; subscriptions memberships;
website site webpage; method way approach; methods ways approaches; reason cause; reasons causes;
result outcome; results outcomes; parts portions sections; amount sum quantity;
amounts sums quantities; number figure; numbers figures; limit cap ceiling; limits caps ceilings;
deadline cutoff; moment instant; salary wage; called phoned; approximately roughly; portion section;
sees notices; think reckon
"""

_CHINESE_GROUPS = """
购买 选购 购入; 退款 退钱 返款; 退货 退回; 换货 调换 更换; 快递 包裹 快件; 物流 配送 运送;
发货 寄出 发出; 收到 拿到 接到; 到账 入账; 转账 汇款; 付款 支付 付钱 缴费; 账单 帐单;
账户 账号 户头; 余额 结余; 费用 花费 开销; 手续费 服务费; 价格 价钱 售价; 便宜 实惠 划算;
优惠 折扣 打折; 优惠券 代金券 抵用券; 订单 单子; 取消 撤销; 客户 顾客 用户; 客服 服务人员;
商家 卖家 店家; 商店 店铺 门店; 商品 产品 货品; 质量 品质; 损坏 破损 坏了; 故障 毛病; 问题 麻烦;
错误 差错 失误; 修理 维修 修复; 帮助 帮忙 协助; 帮忙 帮助; 查询 查一下 查看; 咨询 询问 请教;
回复 答复 回应; 告诉 告知; 解释 说明; 信息 资料 消息; 联系 联络; 投诉 举报; 满意 称心; 不满 不满意;
高兴 开心 快乐; 难过 伤心; 生气 恼火 气愤; 失望 灰心; 抱歉 对不起 不好意思; 谢谢 感谢 多谢;
喜欢 喜爱 中意; 讨厌 厌恶; 很好 不错 挺好; 非常 十分 特别; 特别 尤其 非常; 漂亮 好看 美观;
好吃 美味 可口; 难吃 不好吃; 舒服 舒适; 干净 整洁 清洁; 快速 迅速; 马上 立刻 立即; 尽快 赶快 赶紧;
已经 早已; 经常 常常 时常; 有时 偶尔; 总是 老是 一直; 突然 忽然; 最近 近来; 现在 目前 如今;
以前 从前 过去; 以后 之后 今后; 开始 起初; 结束 完结; 继续 接着; 等待 等候; 想要 希望;
希望 盼望 期望; 可以 能够; 不能 无法 没法; 必须 务必; 应该 应当; 使用 运用; 提供 给予; 显示 显现;
寻找 查找; 选择 挑选; 修改 更改 变更; 更新 刷新; 检查 核对 查验; 确认 核实 核对; 同意 赞成 答应;
拒绝 回绝; 允许 准许; 密码 口令; 登录 登陆; 身份证 证件; 地址 住址; 冻结 封锁; 被盗 失窃;
诈骗 欺诈 骗局; 可疑 可疑的; 安全 稳妥; 危险 风险; 收入 进账; 工资 薪水 薪资; 利润 盈利 收益;
亏损 赔钱; 债务 欠款; 贷款 借款; 存款 储蓄; 取款 提款 取钱; 利息 利钱; 利率 息率; 保险 保障;
股票 股份; 投资者 股民 投资人; 公司 企业; 上涨 上升 走高; 下跌 下降 走低; 增长 增加 提升;
减少 降低 缩减; 暴涨 飙升 大涨; 暴跌 大跌 跳水; 预计 预期 估计; 宣布 公布 发布; 报告 报表;
合同 协议; 老板 经理; 员工 职员 雇员; 计划 打算; 目标 目的; 觉得 认为 感觉; 知道 了解 晓得;
明白 理解; 记得 记着; 忘记 忘了 忘掉; 担心 担忧 忧虑; 肯定 确定 一定; 可能 也许 或许;
大概 大约 差不多; 完全 彻底; 几乎 差点; 但是 不过 可是 然而; 因为 由于; 所以 因此 因而;
如果 要是 假如; 而且 并且; 很多 许多 不少; 一些 若干; 足够 充足; 全部 所有 一切; 容易 简单 轻松;
困难 艰难; 复杂 繁琐; 重要 关键 要紧; 奇怪 古怪 怪异; 相同 一样; 不同 不一样; 清楚 清晰 明了;
真的 确实 的确; 假的 冒牌; 衣服 衣物 服装; 裤子 长裤; 颜色 色彩; 大小 尺寸 尺码; 电脑 计算机;
屏幕 显示屏; 电池 电芯; 照片 相片 图片; 电影 影片; 旅行 旅游 出游; 酒店 宾馆 旅馆; 预订 预定;
景点 景区; 餐厅 饭店 餐馆; 汽车 车子; 医生 大夫; 药物 药品; 治疗 医治; 孩子 小孩 儿童; 妈妈 母亲;
爸爸 父亲; 朋友 友人; 打开 开启; 关闭 关上 关掉; 删除 删掉 去掉; 添加 加入; 网站 网页;
方法 办法 方式; 原因 缘由 理由; 结果 后果; 部分 一部分; 数量 数目; 今天 今日 今儿; 明天 明日 明儿;
昨天 昨日; 晚上 夜里 夜晚; 早上 早晨; 账单 账目
"""


def _by_word(groups: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for group in groups.split(";"):
        for word in group.split():
            found.setdefault(word, []).extend(group.split())
    return {
        word: tuple(other for other in dict.fromkeys(others) if other != word)
        for word, others in found.items()
    }


ENGLISH = _by_word(_ENGLISH_GROUPS)
"""Lower-case word -> its synonyms."""
CHINESE = _by_word(_CHINESE_GROUPS)
"""Word -> its synonyms."""
LONGEST_CHINESE = max(map(len, CHINESE))


@lru_cache(maxsize=65536)
def synonyms_of(word: str) -> tuple[str, ...]:
    """Words that may stand for ``word``, in its casing; none for an unknown word."""
    if word in CHINESE:
        return CHINESE[word]
    others = ENGLISH.get(word.lower(), ())
    if len(word) > 1 and word.isupper():
        return tuple(other.upper() for other in others)
    if word[:1].isupper():
        return tuple(other[:1].upper() + other[1:] for other in others)
    return others
