"""Names under which other shops keep our columns."""

import re
import unicodedata
from typing import Final

_MONGO_WRAPPERS: Final = (
    *(".$numberLong", ".$numberInt", ".$numberDecimal", ".$numberDouble"),
    *(".$oid", ".$date"),
)
"""MongoDB's export writes `{"$oid": "..."}` in the place of an id."""
_REMARK: Final = re.compile(r"(?<=\S)\s*[(\[][^()\[\]]*[)\]]\s*$")
"""What stands behind a name: `Created (UTC)`, `Price [EUR]`."""


def shorten_name(name: str) -> str:
    """A column's name without case, accents, blanks and punctuation."""
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKD", name).casefold())


def list_short_names(name: str) -> tuple[str, ...]:
    """Short names of a column: also that without a remark behind it, and that of the last part of a field
    `a.b` of a structure."""
    for wrapper in _MONGO_WRAPPERS:
        name = name.removesuffix(wrapper)
    names = (name, _REMARK.sub("", name), name.rpartition(".")[2])
    return tuple(dict.fromkeys(map(shorten_name, names)))


def quote_name(name: str) -> str:
    """A column's name as a query wants it: in quotation marks where it is no plain word."""
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else '"' + name.replace('"', '""') + '"'


def _split(names: str) -> tuple[str, ...]:
    return tuple(shorten_name(name) for name in names.split())


_PRICES: Final = (
    "price unitprice listprice saleprice currentprice preis cost priceeur priceusd itemprice "
    "lineitemprice variantprice itemcost orderunitprice productunitprice unitpricetaxincl productprice "
    "einzelpreis stückpreis stueckpreis verkaufspreis nettopreis prix prixunitaire precio "
    "preciounitario preço precounitario prezzo prijs cena 价格 单价 価格 単価 가격 단가 цена"
)
ITEM_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "item_id": _split(
        "itemid productid parentasin asin sku articleid stockcode product item article offerid "
        "movieid newsid pid iid gtin ean artikelnummer productcode itemcode itemsku productsku lineitemsku "
        "variantsku skucode skuid goodsid articlenumber itemnumber productnumber artikelnr artnr artikelid "
        "produktid produktnummer material materialnummer idproduct productreference "
        "customlabel idproduit référence réfproduit idproducto idproduto idprodotto codigo "
        "商品id 商品编号 商品コード 商品番号 상품id 상품코드 상품번호 артикул idтовара товар id"
    ),
    "title": _split(
        "title productname itemname producttitle itemtitle prodname lineitemname name bezeichnung "
        "artikelname artikelbezeichnung produktname produktbezeichnung nomproduit libellé nombre "
        "nombreproducto nomeproduto nomeprodotto headline 商品名 商品名称 商品标题 "
        "상품명 название наименование description proddesc"
    ),
    "brand": _split("brand brandname manufacturer vendor make marke hersteller marque marca merk 品牌 бренд"),
    "category": _split(
        "category categories categorypath productcategory maincategory categoryname categorycode "
        "cat genres department producttype producttypename taxonomy kategorie warengruppe "
        "googleproductcategory catégorie categoría 类目 分类 カテゴリ 카테고리 категория categoryid"
    ),
    "description": _split(
        "description longdescription productdescription itemdescription detaildesc desc details "
        "beschreibung abstract"
    ),
    "price": _split(_PRICES),
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
        "emailaddress useremail buyeremail billingemail client idclient numéroclient cliente idcliente "
        "用户id 会员id 会員id 顧客id ユーザーid 고객id 회원id 사용자id покупатель клиент "
        "идклиента идпользователя sessionid session"
    ),
    "item_id": ITEM_NAMES["item_id"][:-1],
    "timestamp": _split(
        "timestamp eventtimestamp eventtime datetime time ts tsms invoicedate orderdate "
        "purchasedate tdat unixtimestamp unixreviewtime createdat occurredat eventdatetime servertimestamp "
        "collectortstamp derivedtstamp originaltimestamp servertime "
        "receivedat clienteventtime placedat orderedat paidat "
        "ordercreatedat purchasedat saledate transactiondate transactiontime bestellzeit bestelldatum "
        "bestellzeitpunkt rechnungsdatum belegdatum fechahora fechapedido datahora datapedido datecommande "
        "下单时间 创建时间 日時 注文日時 주문일시 датазаказа date day datum zeitpunkt fecha data dt "
        "时间 日期 注文日 주문일 날짜 дата время"
    ),
    "event_type": _split(
        "eventtype event eventname action actiontype behavior behaviour behaviortype activity "
        "interaction interactiontype type typ aktion ereignis 行为类型 行为 "
        "事件 イベント 이벤트 событие"
    ),
    "quantity": _split(
        "quantity qty units menge numitems itemcount count anzahl stueck stück lineitemquantity qtyordered "
        "orderedquantity orderqty orderquantity productquantity productqty quantitypurchased "
        "quantité cantidad quantidade quantità aantal 数量 수량 количество"
    ),
    "returned": _split(
        "returned returnedquantity quantityreturned qtyreturned qtyrefunded quantityrefunded "
        "refundedquantity unitsreturned productquantityreturn productquantityrefunded"
    ),
    "line_total": _split(
        "linetotal totalprice itemtotal rowtotal linetotalprice lineprice orderlinetotal lineitemtotal "
        "nettowert total amount revenue sales "
        "subtotal umsatz gesamtpreis zeilensumme"
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
VAGUE_TOTALS: Final = _split("total totalprice amount revenue sales subtotal umsatz gesamtpreis")
"""Names of totals that may be those of a line or of a whole order, with or without shipping."""
ORDER_NAMES: Final = _split("pos position seq sequence sequenceid step index idx order rank")
"""Of columns that hold an order of a user's events where there is no time."""
PURCHASE_NAMES: Final = _split("rating stars review overall invoice invoiceno orderid orderno transactionid")
"""Of columns that only logs of purchases have: who reviews has bought."""
ORDER_ID_NAMES: Final = _split(
    "orderid orderno ordernumber invoice invoiceno invoiceid transactionid bestellnummer bestellnr "
    "auftragsnummer rechnungsnummer incrementid ordername receiptid numérocommande numeropedido 订单号 "
    "订单编号 注文番号 주문번호 номерзаказа"
)
"""Of columns that name an order, whose state may be told more than once."""
ORDER_STATE_NAMES: Final = _split(
    "orderstatus financialstatus paymentstatus orderstate status state bestellstatus auftragsstatus "
    "statut statuscommande estado stato 订单状态 订单交易状态 ステータス 주문상태 статус статусзаказа"
)
"""Of columns that say what became of an order."""
FLAG_NAMES: Final = _split(
    "clicked isclick isclicked click purchased ispurchase ispurchased purchase ordered bought "
    "addedtocart label"
)
"""Of columns that say by 0 and 1 what became of a row that was shown."""
