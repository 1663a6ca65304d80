//! Simplified Chinese.

use super::{Frame, Rule, Told};
use crate::api::problem::Kind;

pub(super) fn problem(kind: Kind) -> Told {
    match kind {
        Kind::InvalidRequest => Told {
            title: "请求参数无效",
            detail: "请求中以下字段无效：{fields}。",
            happened: "请求中有一个或多个字段缺失或格式不正确。服务器没有执行任何查询。",
            why: &[
                "缺少 X-Tenant-ID、重复发送了它，或其中含有可见 ASCII 以外的字符。",
                "路径中的用户 ID 为空、超过 256 个字符，或百分号编码不正确。",
                "向生产模式的服务器发送了 X-Sessile-Now；生产模式不允许调用方设定时间。",
                "请求没有有效的 Host、有两个 Host，或带有 Transfer-Encoding。",
            ],
            advice: &[
                "查看 `errors`：其中列出每个有问题的字段，并附有供程序使用的代码和供人阅读的说明。",
                "将用户 ID 作为一个路径段进行百分号编码：用户 a/b 应写作 a%2Fb。",
                "不要原样重发该请求：结果会同样失败。",
            ],
        },
        Kind::InvalidApiKey => Told {
            title: "API 密钥无效",
            detail: "请求未携带恰好一个已知的 API 密钥。",
            happened: "服务器无法识别调用方。无论原因为何，答复都相同。",
            why: &[
                "缺少携带密钥的请求头，或该请求头被发送了两次。",
                "该密钥不属于这台服务器：可能输入有误，或属于其他环境。",
                "该密钥已过期，或已在轮换时被移除。",
            ],
            advice: &[
                "在 API 参考所指明的请求头中发送密钥，只发送一次，不带引号和空格。",
                "向运维人员申请新密钥：`sessile key new NAME` 可生成一个。",
                "运维人员：`sessile doctor` 会指出哪些密钥已过期，/metrics 按原因统计拒绝次数。",
            ],
        },
        Kind::TenantNotAllowed => Told {
            title: "不允许访问该租户",
            detail: "该 API 密钥不得用于此租户。",
            happened: "密钥有效，但它适用的租户不包括 X-Tenant-ID 所指的租户。",
            why: &[
                "该密钥仅限于某些租户使用，而此租户不在其中。",
                "X-Tenant-ID 指向了错误的租户。请注意区分大小写。",
            ],
            advice: &[
                "检查 X-Tenant-ID。",
                "使用属于该租户的密钥。",
                "运维人员：将该租户加入密钥的 `tenants`，然后用 SIGHUP 重新加载。",
            ],
        },
        Kind::NotFound => Told {
            title: "未找到",
            detail: "没有任何操作使用此路径。",
            happened: "服务器在此路径上没有任何内容。这并不表示找不到用户：查不到用户时的答复状态为 200。",
            why: &[
                "路径拼写不同。大小写以及末尾的斜杠都有区别。",
                "用户 ID 中的斜杠未经编码：a/b 是两个路径段，a%2Fb 是一个。",
                "服务器的业务监听地址与管理监听地址是分开的，而这里是另一个。",
            ],
            advice: &[
                "将路径与 API 参考对照。",
                "对用户 ID 进行百分号编码。",
                "尝试另一个监听地址。",
            ],
        },
        Kind::MethodNotAllowed => Told {
            title: "不允许的请求方法",
            detail: "此处不允许使用方法 {method}；允许的方法为 {allow}。",
            happened: "该路径存在，但不接受此方法。服务器只回答问题，不作任何更改。",
            why: &[
                "客户端发送了 POST、PUT、DELETE 或 OPTIONS。",
                "浏览器先行请求许可（CORS）。此 API 面向服务，而非其他来源的网页。",
            ],
            advice: &["使用 GET；如果只需要状态，使用 HEAD。"],
        },
        Kind::UriTooLong => Told {
            title: "URI 过长",
            detail: "请求目标超过 {limit} 字节。",
            happened: "路径与查询部分的总长度超过了服务器读取的上限。",
            why: &[
                "路径或查询部分被附加了内容。最长的用户 ID 经百分号编码后为 3,072 字节。",
                "用户 ID 被多次进行百分号编码。",
            ],
            advice: &["去掉查询部分：它会被忽略。用户 ID 只编码一次。"],
        },
        Kind::TooManyRequests => Told {
            title: "请求过多",
            detail: "该 API 密钥的请求超出了其速率限制；请在 {retry_after} 秒后重试。",
            happened: "已超过运维人员为该密钥设定的速率。其他密钥不受影响。",
            why: &[
                "调用方的请求频率高于约定。",
                "多个程序共用该密钥：速率由它们共同占用。",
                "客户端不间断地重复发送请求。",
            ],
            advice: &[
                "等待 Retry-After 所示的秒数，然后重新发送请求。",
                "将请求分散开；额度会均匀恢复。",
                "运维人员：提高该密钥的 `max_rate`，或为每个程序分配各自的密钥。",
            ],
        },
        Kind::HeadersTooLarge => Told {
            title: "请求头字段过大",
            detail: "请求的头字段超过 {limit} 个，或其总长度超过 {bytes} 字节。",
            happened: "请求携带的头字段的数量或总长度超过了服务器读取的上限。",
            why: &[
                "途中的代理或浏览器添加了 Cookie 等字段。",
                "客户端在循环中重复添加字段。",
            ],
            advice: &["只发送 API 参考中列出的字段；其余字段均会被忽略。"],
        },
        Kind::InternalError => Told {
            title: "服务器内部错误",
            detail: "无法给出答复；服务器日志中此 request_id 下记有原因。",
            happened: "服务器未能得出答复。它从不猜测：没有答复既不表示“是”，也不表示“否”。",
            why: &[
                "数据文件缺失、损坏、被锁定过久，或无法读取。",
                "服务器存在程序错误。",
            ],
            advice: &[
                "事先确定没有答复时您的服务该如何处理。对于敏感步骤，应予以拒绝。",
                "间隔一秒或更久后重试一次。",
                "运维人员：在日志中查找该 `request_id`，并运行 `sessile doctor`。",
            ],
        },
        Kind::Unavailable => Told {
            title: "服务不可用",
            detail: "服务器繁忙或即将停止；请在 {retry_after} 秒后重试。",
            happened: "服务器在处理之前就谢绝了该请求，以便对其他请求保持快速响应。",
            why: &[
                "正在处理的请求多于 `server.max_in_flight` 所允许的数量。",
                "服务器已收到停止指令，只完成已经开始的工作。",
            ],
            advice: &[
                "等待 Retry-After 所示的秒数，然后重新发送请求。",
                "如果持续出现，请按服务器无法连接来处理。",
                "运维人员：/readyz 会说明服务器是否正在停止。",
            ],
        },
    }
}

pub(super) fn violation(rule: Rule) -> &'static str {
    match rule {
        Rule::Required => "{field} 为必填项",
        Rule::Once => "{field} 只能提供一次",
        Rule::Host => "{field} 必须是主机名或地址；端口不是默认端口时须一并给出",
        Rule::NoTransferEncoding => "不允许使用 {field}：此处的请求均没有正文",
        Rule::TenantId => "{field} 必须是 1 到 128 个可见 ASCII 字符",
        Rule::UserId => "{field} 必须是 1 到 256 个字符，且不含控制字符",
        Rule::PercentEncoding => {
            "{field} 必须是经百分号编码的 UTF-8，每个 % 之后须有两个十六进制数字"
        }
        Rule::Instant => "{field} 必须是 RFC 3339 时刻，例如 2026-11-23T12:00:00.001Z",
        Rule::DevelopmentOnly => "生产模式下不允许使用 {field}",
    }
}

pub(super) const FRAME: Frame = Frame {
    problems: "问题类型",
    lead: "此服务器的每个错误都是一个 Problem 对象（RFC 9457），其 type 即为以下某个页面的地址。",
    status: "状态码",
    kind: "问题",
    code: "业务代码",
    happened: "发生了什么",
    why: "可能的原因",
    advice: "如何处理",
    example: "示例",
    all: "所有问题类型",
    reference: "API 参考",
    skip: "跳到正文",
    pages: "页面",
};
