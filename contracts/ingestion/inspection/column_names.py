"""Names under which other shops keep our columns."""

import re
import unicodedata
from typing import Final

from contracts.ingestion.inspection.name_words import PAIRED_NAMES, STOP_WORDS, list_words

_MONGO_WRAPPERS: Final = (
    *(".$numberLong", ".$numberInt", ".$numberDecimal", ".$numberDouble"),
    *(".$oid", ".$date"),
)
"""MongoDB's export writes `{"$oid": "..."}` in the place of an id."""
_REMARK: Final = re.compile(r"(?<=\S)\s*[(\[][^()\[\]]*[)\]]\s*$")
"""What stands behind a name: `Created (UTC)`, `Price [EUR]`."""
_UNDECOMPOSED: Final = {0x131: "i", 0x142: "l", 0xF8: "o", 0x111: "d"}
"""Letters of Turkish, Polish, Danish and Vietnamese that Unicode takes for letters of their own."""
_PART_MARK: Final = re.compile(r"\.|(?<=\w)__(?=\w)")


def shorten_name(name: str) -> str:
    """A column's name without case, accents, blanks and punctuation."""
    folded = unicodedata.normalize("NFKD", name).casefold().translate(_UNDECOMPOSED)
    return re.sub(r"[\W_]", "", folded)


def list_short_names(name: str) -> tuple[str, ...]:
    """Short names of a column: also those without a remark behind it or words that tell nothing, and that of
    the last part of a field `a.b` of a structure or `a__b` of a joined table."""
    for wrapper in _MONGO_WRAPPERS:
        name = name.removesuffix(wrapper)
    last_part = _PART_MARK.split(name)[-1]
    words = list_words(_REMARK.sub("", last_part))
    plain = "".join(word for word in words if word.lower() not in STOP_WORDS)
    return tuple(dict.fromkeys(map(shorten_name, (name, _REMARK.sub("", name), plain, last_part))))


def quote_name(name: str) -> str:
    """A column's name as a query wants it: in quotation marks where it is no plain word."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else '"' + name.replace('"', '""') + '"'


def _split(names: str, ours: str = "") -> tuple[str, ...]:
    """Short names, the best first; those that are pairs of words come last."""
    listed = (*names.split(), *PAIRED_NAMES.get(ours, ()))
    return tuple(dict.fromkeys(shorten_name(name) for name in listed))


_PRICES: Final = (
    "price unitprice listprice regularprice saleprice currentprice preis cost priceeur priceusd itemprice "
    "priceperunit lineitemprice variantprice itemcost orderunitprice productunitprice unitpricetaxincl "
    "productprice einzelpreis stückpreis stueckpreis verkaufspreis nettopreis netpr bruttopreis prix "
    "precio salesprice itemrate egységár preço precounitario 价格 单价 価格 単価 가격 단가 цена"
)
_VAGUE_TOTALS: Final = (
    "total totalprice amount revenue sales subtotal umsatz gesamtpreis gesamtbetrag betrag summe montant "
    "montanttotal importe importetotal valortotal importo totale prezzototale totaal totaalbedrag bedrag "
    "kwota wartość razem summa belopp tutar toplam toplamtutar сумма стоимость 金额 总金额 总价 実付金額 "
    "实付金额 金額 合計 小計 合計金額 금액 합계 총금액"
)
ITEM_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "item_id": (
        *_split(
            "itemid productid parentasin asin sku articleid stockcode product item article offerid "
            "movieid newsid pid iid gtin ean artikelnummer productcode itemcode itemsku productsku "
            "lineitemsku variantsku skucode goodsid articlenumber itemnumber productnumber artikelnr "
            "artnr artikelid produktid produktnummer material materialnummer matnr idproduct "
            "productreference product2id skuid sellersku merchantsku customlabel idproduit référence "
            "réfproduit referencia idproducto idproduto idprodotto codigo codice 商品id 商品编号 商品コード "
            "商品番号 商品管理番号 상품id 상품코드 상품번호 артикул idтовара товар bookid isbn "
            "trackid traid songid videoid gameid recipeid businessid venueid contentid contentids "
            "aid",
            "item_id",
        ),
        "id",
    ),
    "title": _split(
        "title productname itemname producttitle itemtitle prodname lineitemname name bezeichnung "
        "artikelname artikelbezeichnung produktname produktbezeichnung nomproduit libellé nombre "
        "nombreproducto nomeproduto nomeprodotto headline maktx arktx 商品名 商品名称 商品标题 "
        "상품명 название наименование description proddesc omschrijving productomschrijving benämning "
        "désignation nom nome nazwa název назва megnevezés denominazione 品名",
        "title",
    ),
    "brand": _split(
        "brand brandname manufacturer vendor make marke hersteller marque marca merk marka fabricant "
        "fabricante produttore producent 品牌 ブランド 브랜드 бренд производитель"
    ),
    "category": _split(
        "category categories categorypath productcategory maincategory categoryname categorycode "
        "cat genres department producttype producttypename taxonomy kategorie warengruppe "
        "googleproductcategory catégorie categoría 类目 分类 カテゴリ 카테고리 категория categoryid "
        "categorie categoria kategori kategoria ジャンル カテゴリー "
        "productgroup groupe famille familia rubrique группа"
    ),
    "description": _split(
        "description longdescription productdescription itemdescription detaildesc desc details "
        "beschreibung abstract descripción descrição descrizione opis aciklama описание 商品描述 商品説明 "
        "상품설명"
    ),
    "price": _split(_PRICES, "price"),
    "available_at": _split(
        "availableat createdat launchdate releasedate publishedat firstseen onlinesince dateadded created"
    ),
}
EVENT_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "user_id": _split(
        "userid customerid visitorid clientid memberid accountid buyerid reviewerid shopperid "
        "user customer visitor uid kundennummer kundennr kundenid kunde customernumber customerno custid "
        "customeruserid idcustomer shopcustomerid customerusername buyer buyerusername profileid "
        "userpseudoid distinctid domainuserid fullvisitorid anonymousid idvisitor customeremail email "
        "amplitudeid kunnr auftraggeber käufer kaeufer "
        "emailaddress useremail buyeremail billingemail client idclient numéroclient cliente idcliente "
        "用户id 会员id 会員id 顧客id ユーザーid 고객id 회원id 사용자id покупатель клиент "
        "идклиента идпользователя buyeruserid customeraccount householdkey householdid mcvisid "
        "买家会员名 注文者メールアドレス メールアドレス externalid deviceid cookieid sessionid session",
        "user_id",
    ),
    "item_id": ITEM_NAMES["item_id"][:-1],
    "timestamp": _split(
        "timestamp eventtimestamp eventtime datetime time ts tsms invoicedate orderdate "
        "purchasedate tdat unixtimestamp unixreviewtime createdat occurredat eventdatetime servertimestamp "
        "derivedtstamp originaltimestamp collectortstamp servertime "
        "receivedat clienteventtime placedat orderedat paidat "
        "ordercreatedat purchasedat saledate transactiondate transactiontime bestellzeit bestelldatum "
        "bestellzeitpunkt rechnungsdatum belegdatum angelegtam erdat audat fechahora fechapedido datahora "
        "datapedido datecommande "
        "下单时间 创建时间 日時 注文日時 주문일시 датазаказа date day datum zeitpunkt fecha data dt "
        "时间 日期 注文日 주문일 날짜 дата время 订单付款时间 订单创建时间 付款时间 completetime "
        "createddatetime datekey dateadd dateadded hittimegmt created",
        "timestamp",
    ),
    "event_type": _split(
        "eventtype event eventname action actiontype behavior behaviour behaviortype activity "
        "interaction interactiontype type typ aktion ereignis 行为类型 行为 "
        "事件 イベント 이벤트 событие"
    ),
    "quantity": _split(
        "quantity qty units menge numitems itemcount count anzahl stueck stück lineitemquantity qtyordered "
        "orderedquantity orderqty orderquantity productquantity productqty quantitypurchased "
        "auftragsmenge bestellmenge kwmeng quantité cantidad quantidade quantità aantal 数量 수량 количество "
        "unitquantity unitssold",
        "quantity",
    ),
    "returned": _split(
        "returned returnedquantity quantityreturned qtyreturned qtyrefunded quantityrefunded "
        "refundedquantity unitsreturned productquantityreturn productquantityrefunded"
    ),
    "line_total": _split(
        "linetotal totalprice itemtotal rowtotal linetotalprice lineprice orderlinetotal lineitemtotal "
        "nettowert netwr zeilensumme zeilenbetrag positionsbetrag " + _VAGUE_TOTALS
    ),
    "price": ITEM_NAMES["price"],
    "request_id": _split(
        "requestid recommendationid impressionid reqid searchid queryid serveid pageviewid listid"
    ),
    "position": _split("position rank slot displayposition"),
    "arm": _split("arm variant experimentarm abgroup testgroup"),
    "scene": _split("scene surface placement pagetype"),
    "query": _split("query searchquery searchterm keyword keywords suchbegriff"),
    "device": _split("device devicetype platform"),
    "propensity": _split("propensity propensityscore"),
    "event_id": _split("eventid messageid insertid orderlineid"),
}
PRODUCT_NAMES: Final = _split("handle producthandle parentsku parentid parentproductid itemgroupid groupid")
"""Of columns that name the product of a variant."""
VAGUE_TOTALS: Final = _split(_VAGUE_TOTALS)
"""Names of totals that may be those of a line or of a whole order, with or without shipping."""
ORDER_NAMES: Final = _split("pos position seq sequence sequenceid step index idx order rank")
"""Of columns that hold an order of a user's events where there is no time."""
PURCHASE_NAMES: Final = _split("rating stars review overall invoice invoiceno orderid orderno transactionid")
"""Of columns that only logs of purchases have: who reviews has bought."""
ORDER_ID_NAMES: Final = _split(
    "orderid orderno ordernumber invoice invoiceno invoiceid transactionid bestellnummer bestellnr "
    "auftragsnummer rechnungsnummer verkaufsbeleg vbeln idorder incrementid ordername receiptid "
    "numérocommande numeropedido 订单号 订单编号 注文番号 주문번호 номерзаказа",
    "order",
)
"""Of columns that name an order, whose state may be told more than once."""
ORDER_STATE_NAMES: Final = _split(
    "orderstatus financialstatus paymentstatus orderstate status state bestellstatus auftragsstatus "
    "statut statuscommande estado stato 订单状态 订单交易状态 ステータス 주문상태 статус статусзаказа",
    "state",
)
"""Of columns that say what became of an order."""
FLAG_NAMES: Final = _split(
    "clicked isclick isclicked click purchased ispurchase ispurchased purchase ordered bought "
    "addedtocart label"
)
"""Of columns that say by 0 and 1 what became of a row that was shown."""
