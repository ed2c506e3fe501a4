-- Wireshark dissector of the swpks data channel: the h-calls of a PowerVM platform keystore.
--
-- Made by `swpks dissector` from the tables of the contract; do not edit.  Frames: spec/protocol.md.
--
--   swpks dissector > swpks.lua
--   tshark -X lua_script:swpks.lua -r FILE.pcapng
--
-- It reads two kinds of captures.  A trace of `swpks serve --trace` has one frame in each packet, and names this
-- dissector.  In TCP traffic a connection is recognised by the first bytes of its frames.  A Unix socket can't be
-- captured.

--@tables@

local proto = Proto("swpks", "PowerVM platform keystore")
local malformed = ProtoExpert.new("swpks.malformed", "Malformed frame", expert.group.MALFORMED, expert.severity.ERROR)
local refused = ProtoExpert.new("swpks.refused", "The call was refused", expert.group.RESPONSE_CODE, expert.severity.NOTE)
proto.experts = { malformed, refused }

-- Fields

local fields = {}

local KINDS = {
    u8 = ProtoField.uint8, u16 = ProtoField.uint16, u32 = ProtoField.uint32, u64 = ProtoField.uint64,
    s32 = ProtoField.int32, s64 = ProtoField.int64,
}
local HEXADECIMAL = {
    ["hcall.opcode"] = true, ["config.supported_policies"] = true, ["config.flags"] = true,
    ["config.signed_update_algorithms"] = true, ["config.wrapping_features"] = true, ["segment.address"] = true,
    ["write.address"] = true, ["hello.features"] = true,
}

local function add_field(name, kind, label, words)
    local abbreviation = "swpks." .. name
    if kind == "bytes" then
        fields[name] = ProtoField.bytes(abbreviation, label)
    elseif kind == "text" then
        fields[name] = ProtoField.string(abbreviation, label, base.UNICODE)
    elseif kind == "frame" then
        fields[name] = ProtoField.framenum(abbreviation, label, base.NONE, words)
    elseif kind == "address" then
        fields[name] = ProtoField.uint64(abbreviation, label, base.HEX)
    elseif HEXADECIMAL[name] then
        fields[name] = KINDS[kind](abbreviation, label, base.HEX, words)
    else
        fields[name] = KINDS[kind](abbreviation, label, base.DEC, words)
    end
end

for structure, layout in pairs(LAYOUTS) do
    for _, member in ipairs(layout) do
        if member.items == 1 then
            local name = structure .. "." .. member.name
            add_field(name, member.kind, member.name, WORDS[name])
        end
    end
end
for _, structure in ipairs({ "hello", "open" }) do add_field(structure .. ".name", "text", "name") end
add_field("opened.level", "text", "level")
add_field("goodbye.text", "text", "text")
add_field("text_length", "u8", "length of the text")
for register = 4, 12 do
    add_field("hcall.r" .. register, "address", "r" .. register)
    add_field("hreturn.r" .. register, "address", "r" .. register)
end
for name in pairs(ARGUMENT_NAMES) do add_field("argument." .. name, "address", name) end
for name in pairs(RESULT_NAMES) do add_field("result." .. name, "u64", name) end
add_field("password", "bytes", "password")
add_field("label", "bytes", "label")
add_field("label_text", "text", "label as text")
add_field("label_length", "u16", "length of a label")
add_field("memory", "bytes", "bytes")
add_field("content", "bytes", "bytes")
add_field("left_over", "bytes", "bytes left over")
add_field("request_in", "frame", "answer to the call in", frametype.REQUEST)
add_field("response_in", "frame", "answered in", frametype.RESPONSE)
for _, place in ipairs({ "argument", "result" }) do
    for _, bit in ipairs(POLICIES) do
        local name = place .. ".policy." .. bit.name
        fields[name] = ProtoField.bool("swpks." .. name, bit.name, 32, nil, bit.mask)
    end
end

local listed = {}
for _, field in pairs(fields) do listed[#listed + 1] = field end
proto.fields = listed

-- Structures: each member is added at its offset; a constant with another value marks the frame.

local function mark(tree, rule)
    tree:add_proto_expert_info(malformed, rule)
end

local function add_member(tree, structure, member, range)
    local name = structure .. "." .. member.name
    tree:add(fields[name], range)
    if member.constant and range:bytes():tohex(true) ~= member.constant then
        mark(tree, name .. " has not its fixed value")
    end
end

-- Add the members that lie within the bytes, and return the offset behind the structure; nil if bytes are missing.
local function add_structure(tree, structure, bytes, offset)
    local size = SIZES[structure]
    for _, member in ipairs(LAYOUTS[structure]) do
        local at = offset + member.offset
        if at + member.size > bytes:len() then return nil end
        if member.items == 1 then add_member(tree, structure, member, bytes(at, member.size)) end
    end
    return offset + size
end

local function valid_utf8(text)
    local at = 1
    while at <= #text do
        local first = text:byte(at)
        local more = first >= 0xF0 and 3 or first >= 0xE0 and 2 or first >= 0xC0 and 1 or 0
        local point = more == 3 and first - 0xF0 or more == 2 and first - 0xE0 or first - 0xC0
        if first >= 0x80 and (first < 0xC2 or first > 0xF4) then return false end
        for n = at + 1, at + more do
            local byte = text:byte(n)
            if not byte or byte < 0x80 or byte > 0xBF then return false end
            point = point * 64 + byte - 0x80
        end
        if more == 2 and (point < 0x800 or (point >= 0xD800 and point < 0xE000)) then return false end
        if more == 3 and (point < 0x10000 or point > 0x10FFFF) then return false end
        at = at + 1 + more
    end
    return true
end

-- The rest of a body that is one length byte and a text.
local function add_text(tree, name, body, offset)
    if not offset or offset >= body:len() then return mark(tree, "the body lacks fields") end
    local length = body(offset, 1):uint()
    tree:add(fields.text_length, body(offset, 1))
    if offset + 1 + length > body:len() then return mark(tree, "the text ends behind the body") end
    if length > 0 then
        tree:add(fields[name], body(offset + 1, length))
        if not valid_utf8(body(offset + 1, length):raw()) then mark(tree, "the text is not UTF-8") end
    end
    if offset + 1 + length < body:len() then
        tree:add(fields.left_over, body(offset + 1 + length))
        mark(tree, "bytes are left over")
    end
end

-- Conversations: the n-th HRETURN answers the n-th HCALL

local conversations = {}
local links = {}
local nth = 0

function proto.init()
    conversations, links = {}, {}
end

local function conversation_of(pinfo)
    local here = tostring(pinfo.src) .. ":" .. pinfo.src_port
    local there = tostring(pinfo.dst) .. ":" .. pinfo.dst_port
    local key = here < there and here .. "-" .. there or there .. "-" .. here
    conversations[key] = conversations[key] or { waiting = {} }
    return conversations[key]
end

-- The link of this frame: that of its first dissection, or a new one.
local function link_of(pinfo, make)
    local key = pinfo.number .. "/" .. nth
    if not pinfo.visited then links[key] = make(conversation_of(pinfo)) end
    return links[key]
end

local function new_call(pinfo, call)
    return link_of(pinfo, function(conversation)
        call.request = pinfo.number
        table.insert(conversation.waiting, call)
        return call
    end)
end

local function answered_call(pinfo)
    return link_of(pinfo, function(conversation)
        local call = table.remove(conversation.waiting, 1)
        if call then call.response = pinfo.number end
        return call
    end)
end

-- Guest memory

-- The bytes of a buffer, from the pieces of memory that the frame carries; nil if it has not all of them.
local function memory_at(pieces, address, length)
    for _, piece in ipairs(pieces) do
        local ahead = address >= piece.address and (address - piece.address) or nil
        if piece.range and ahead and ahead < UInt64(0, 1) and ahead:tonumber() + length <= piece.range:len() then
            return piece.range(ahead:tonumber(), length)
        end
    end
end

local function add_policy(tree, place, range)
    local low = range(4, 4)
    for _, bit in ipairs(POLICIES) do tree:add(fields[place .. ".policy." .. bit.name], low) end
end

local function add_authorization(tree, pieces, address)
    local head = memory_at(pieces, address, SIZES.auth)
    if not head then return end
    local block = tree:add(head, "authorization block")
    add_structure(block, "auth", head:tvb(), 0)
    local length = head(14, 2):uint()
    local whole = length > 0 and memory_at(pieces, address, SIZES.auth + length)
    if whole then block:add(fields.password, whole(SIZES.auth, length)) end
end

local function add_label(tree, range)
    tree:add(fields.label, range)
    local text = range:raw():gsub("[^\32-\126]", ".")
    tree:add(fields.label_text, range, text)
end

-- The content of an argument's buffer in an HCALL.
local function add_content(tree, argument, pieces, registers)
    local address = registers[argument.register]
    if argument.kind == "authorization" then return add_authorization(tree, pieces, address) end
    local length = argument.length and registers[argument.length]
    if not length or length == UInt64(0) or length >= UInt64(0, 1) then return end
    local range = memory_at(pieces, address, length:tonumber())
    if not range then return end
    local content = tree:add(range, argument.name .. ", the bytes")
    if argument.kind == "label" then add_label(content, range) else content:add(fields.content, range) end
end

local function add_label_list(tree, range, count)
    local offset = 0
    for _ = 1, count do
        if offset + 2 > range:len() then return end
        local length = range(offset, 2):uint()
        tree:add(fields.label_length, range(offset, 2))
        if offset + 2 + length > range:len() then return end
        if length > 0 then add_label(tree, range(offset + 2, length)) end
        offset = offset + 2 + length
    end
end

-- The content of a write in an HRETURN, by the argument of the call whose buffer begins there.
local function add_written(tree, call, write, registers)
    local spec = call and CALLS[call.opcode]
    for _, argument in ipairs(spec and spec.arguments or {}) do
        if argument.written and call.registers[argument.register] == write.address then
            local content = tree:add(write.range, argument.name .. ", the bytes")
            if spec.name == "GET_CONFIG" then
                return add_structure(content, "config", write.range:tvb(), 0)
            elseif spec.name == "GET_OBJECTLABELS" then
                return add_label_list(content, write.range, registers[4]:tonumber())
            end
            return content:add(fields.content, write.range)
        end
    end
end

-- Bodies

local function add_registers(tree, frame, body, names)
    local place = frame == "hcall" and "argument" or "result"
    local registers = {}
    for register = 4, 12 do
        local range = body(8 + 8 * (register - 4), 8)
        registers[register] = range:uint64()
        local name = names[register]
        local item = tree:add(fields[name and place .. "." .. name or frame .. ".r" .. register], range)
        if name then item:prepend_text("r" .. register .. " ") end
        if name == "policy" then add_policy(item, place, range) end
    end
    return registers
end

local function overlapping(pieces)
    local sorted = {}
    for _, piece in ipairs(pieces) do
        if piece.length > 0 then sorted[#sorted + 1] = piece end
    end
    table.sort(sorted, function(a, b) return a.address < b.address end)
    for n, piece in ipairs(sorted) do
        local following = sorted[n + 1]
        if following and following.address - piece.address < UInt64(piece.length) then return true end
        local last = piece.address + UInt64(piece.length - 1)
        if last < piece.address then return true end
    end
    return false
end

-- Read the table behind a head, and give each piece its bytes.
local function add_table(tree, structure, body, count, has_bytes)
    local pieces, offset = {}, SIZES.hcall
    for n = 1, count do
        if offset + SIZES[structure] > body:len() then
            mark(tree, "the table of " .. structure .. "s is cut off")
            return pieces, nil
        end
        local item = tree:add(body(offset, SIZES[structure]), structure .. " " .. n - 1)
        add_structure(item, structure, body, offset)
        local piece = { address = body(offset, 8):uint64(), length = body(offset + 8, 4):uint(), item = item }
        piece.access = body(offset + 12, 4):uint()
        pieces[n], offset = piece, offset + SIZES[structure]
    end
    for _, piece in ipairs(pieces) do
        if has_bytes(piece) and piece.length > 0 then
            if offset + piece.length > body:len() then
                mark(tree, "bytes are missing")
                return pieces, nil
            end
            piece.range, offset = body(offset, piece.length), offset + piece.length
            piece.item:add(fields.memory, piece.range)
        end
    end
    if offset < body:len() then
        tree:add(fields.left_over, body(offset))
        mark(tree, "bytes are left over")
    end
    return pieces, offset
end

local BODIES = {}

function BODIES.HELLO(tree, body)
    local offset = add_structure(tree, "hello", body, 0)
    add_text(tree, "hello.name", body, offset)
    if offset and body(0, 1):uint() > body(1, 1):uint() then mark(tree, "the lowest version is above the highest") end
    return ""
end

function BODIES.OPEN(tree, body)
    local offset = add_structure(tree, "open", body, 0)
    add_text(tree, "open.name", body, offset)
    if not offset then return "" end
    local kind = body(2, 1):uint()
    if kind > 1 then mark(tree, "unknown proof kind") end
    if kind == 0 and body(36, 32):bytes():tohex() ~= string.rep("0", 64) then
        mark(tree, "a proof that is not checked")
    end
    return "partition " .. body(0, 2):uint()
end

function BODIES.OPENED(tree, body)
    local offset = add_structure(tree, "opened", body, 0)
    add_text(tree, "opened.level", body, offset)
    if not offset then return "" end
    local status = body(0, 4):int()
    if status == 0 then return "partition " .. body(4, 2):uint() .. ", IPL " .. body(8, 4):uint() end
    return WORDS["opened.status"][status] or "status " .. status
end

function BODIES.GOODBYE(tree, body)
    local offset = add_structure(tree, "goodbye", body, 0)
    add_text(tree, "goodbye.text", body, offset)
    return offset and (WORDS["goodbye.reason"][body(0, 4):uint()] or "reason " .. body(0, 4):uint()) or ""
end

function BODIES.HCALL(tree, body, pinfo, tag)
    if not add_structure(tree, "hcall", body, 0) then mark(tree, "the body lacks fields") return "" end
    local wide = body(0, 8):uint64()
    local opcode = wide < UInt64(0, 1) and wide:tonumber() or -1
    local spec = CALLS[opcode]
    local name = spec and spec.name or "opcode 0x" .. wide:tohex()
    local registers = add_registers(tree, "hcall", body, spec and spec.names or {})
    local call = new_call(pinfo, { tag = tag, opcode = opcode, name = name, registers = registers })
    if call and call.response then tree:add(fields.response_in, call.response):set_generated() end
    local pieces, whole = add_table(tree, "segment", body, body(80, 2):uint(), function(piece)
        return piece.access == 1 or piece.access == 3
    end)
    for _, piece in ipairs(pieces) do
        if piece.access < 1 or piece.access > 3 then mark(piece.item, "unknown access") end
    end
    if overlapping(pieces) then mark(tree, "segments overlap, or end behind the last address") end
    if whole then
        for _, argument in ipairs(spec and spec.arguments or {}) do
            if argument.readable then add_content(tree, argument, pieces, registers) end
        end
    end
    return name
end

local function add_status(tree, status, call)
    local word = STATUSES[status] or "status " .. status
    if status >= 0 then return word end
    local register = BLAMED[status]
    local name = register and call and CALLS[call.opcode] and CALLS[call.opcode].names[register]
    if register then word = word .. " (r" .. register .. (name and " " .. name or "") .. ")" end
    tree:add_proto_expert_info(refused, word)
    return word
end

function BODIES.HRETURN(tree, body, pinfo, tag)
    if not add_structure(tree, "hreturn", body, 0) then mark(tree, "the body lacks fields") return "" end
    local call = answered_call(pinfo)
    local spec = call and CALLS[call.opcode]
    if call then tree:add(fields.request_in, call.request):set_generated() end
    if call and call.tag ~= tag then mark(tree, "another tag than that of the oldest call") end
    local word = add_status(tree, body(0, 8):int64():tonumber(), call)
    local registers = add_registers(tree, "hreturn", body, spec and spec.results or {})
    local pieces = add_table(tree, "write", body, body(80, 2):uint(), function() return true end)
    for _, piece in ipairs(pieces) do
        if piece.range then add_written(piece.item, call, piece, registers) end
    end
    return call and word .. ", " .. call.name or word
end

-- Frames

local function check_header(tree, tvb)
    local kind = tvb(5, 1):uint()
    if not FRAMES[kind] then mark(tree, "unknown frame type") end
    if tvb(4, 1):uint() ~= VERSION and kind ~= 1 and kind ~= 2 then mark(tree, "another version") end
    if (kind == 1 or kind == 6) and tvb(8, 4):uint() ~= 0 then mark(tree, "HELLO and GOODBYE have tag 0") end
    if tvb(12, 4):uint() > MAX_BODY then mark(tree, "a body over 256 KiB") end
end

local function add_frame(tvb, pinfo, root)
    local tree = root:add(proto, tvb())
    nth = nth + 1
    if tvb:len() < SIZES.frame_header then mark(tree, "the header is cut off") return tvb:len() end
    add_structure(tree, "frame_header", tvb, 0)
    check_header(tree, tvb)
    local name = FRAMES[tvb(5, 1):uint()] or "unknown frame"
    local size = SIZES.frame_header
    if tvb:len() < size + tvb(12, 4):uint() then mark(tree, "the body is cut off") end
    local more = ""
    if BODIES[name] then
        local body = tvb:len() > size and tvb(size):tvb() or ByteArray.new(""):tvb("empty body")
        more = BODIES[name](tree, body, pinfo, tvb(8, 4):uint())
    end
    local text = name .. (more ~= "" and " " .. more or "")
    tree:append_text(": " .. text)
    pinfo.cols.protocol = "SWPKS"
    if nth == 1 then pinfo.cols.info = text else pinfo.cols.info:append("; " .. text) end
    return tvb:len()
end

local exported = Field.new("exported_pdu.prot_name")

local function dissect(tvb, pinfo, root)
    nth = 0
    -- A capture with a length limit has not all bytes of a packet, so its frames can't be put together.
    if tvb:len() < tvb:reported_len() then return add_frame(tvb, pinfo, root) end
    -- Over TCP the frames come in any pieces; a trace has one frame in each packet.
    if exported() then return add_frame(tvb, pinfo, root) end
    dissect_tcp_pdus(tvb, root, SIZES.frame_header, function(stream, _, offset)
        return SIZES.frame_header + math.min(stream(offset + 12, 4):uint(), MAX_BODY)
    end, function(frame) return add_frame(frame, pinfo, root) end)
    return tvb:len()
end

function proto.dissector(tvb, pinfo, root)
    return dissect(tvb, pinfo, root)
end

local function begins_with_a_frame(tvb)
    return tvb:len() >= 6 and tvb(0, 4):uint() == MAGIC and FRAMES[tvb(5, 1):uint()] ~= nil
end

proto:register_heuristic("tcp", function(tvb, pinfo, root)
    if not begins_with_a_frame(tvb) then return false end
    pinfo.conversation = proto
    -- A call of proto.dissector would forbid the reassembly of this packet.
    dissect(tvb, pinfo, root)
    return true
end)
DissectorTable.get("tcp.port"):add_for_decode_as(proto)
