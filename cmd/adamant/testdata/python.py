"""Write python.json: what Python's textwrap, repr and json make of some texts and values.

    python3 python.py 1 25 > python.json
"""
import json,random,textwrap,sys
random.seed(int(sys.argv[1])); n=int(sys.argv[2])
words=["Readable","Movable['float']","a-b","long-hyphenated-word","x","--flag","e-mail","well-known","A-1","1-a","foo_bar-baz","Movable['float | None', 'int']","Literal['north-east', 'south-west']","é-tude-noire","Triggerable","y"*90,"supercalifragilistic-"*6,"-","a--b","日本語-テキスト","ophyd_async.core._protocol.AsyncReadable"]
lines=["","  ","a b","    four","\ttab","  two\ttab"," one","\t  mixed","text. ","    four  ","\x0c","x\x0by","é\u2028z","crlf\r"]
vals=[0,-1,10**30,1.0,1e16,1e15,123456789012345678.0,1e-4,1e-5,0.1,-0.0,5e-324,1.7976931348623157e308,True,False,None,"","text","it's",'say "x"','both \' and "',"tab\t nl\n cr\r bs\\","\x00\x7f\x1b","é日本","\u200b\u00ad\u00a0","😀\U000e0001","\u2028",[],{},[[]],{"":{}},"\x08\x0c/"]
def val(d=0):
    r=random.random()
    if d<3 and r<.2: return [val(d+1) for _ in range(random.randint(0,3))]
    if d<3 and r<.4: return {random.choice(["a","b c","é","'","\n","z"])+str(i):val(d+1) for i in range(random.randint(0,3))}
    return random.choice(vals)
out={"wrap":[],"text":[],"values":[]}
for i in range(n):
    s=random.choice([", "," ",", ","  "]).join(random.choice(words) for _ in range(random.randint(0,12)))
    w=random.choice([80,80,20,30,7])
    out["wrap"].append({"in":s,"width":w,"out":textwrap.fill(s,w)})
    t="\n".join(random.choice(lines) for _ in range(random.randint(0,6)))
    out["text"].append({"in":t,"dedent":textwrap.dedent(t),"indent":textwrap.indent(t,"    "),"strip":t.strip()})
vs=vals+[val() for _ in range(n)]
for v in vs:
    raw=json.dumps(v,ensure_ascii=False,separators=(",",":"))
    out["values"].append({"in":raw,"str":str(v),"repr":repr(v),"line":json.dumps(v),"lines":json.dumps(v,indent=2)})
for raw in ["1E400","-1e400","1e5","1.50","-0","1E-7","100000000000000000000.0"]:
    v=json.loads(raw); out["values"].append({"in":raw,"str":str(v),"repr":repr(v),"line":json.dumps(v),"lines":json.dumps(v,indent=2)})
json.dump(out,sys.stdout,indent=1,ensure_ascii=False)
print()
